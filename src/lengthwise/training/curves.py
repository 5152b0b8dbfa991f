"""Several runs side by side: validation loss against seconds and against tokens.

Which way of building sequences is better is a question of both: rows of other lengths cost other
seconds, and teach something else in as many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise._utils.outputs import picture_metadata
from lengthwise.sequences.files import written_aside
from lengthwise.training.config import TrainingError
from lengthwise.training.log import NAME, read_log

KINDS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Curve:
    """Evaluations of one run in the order they were made: [evaluations] each.

    seconds: of training until then, evaluation not counted. tokens: read until then. losses: nats a
    token of the validation documents.
    """

    name: str
    seconds: tuple[float, ...]
    tokens: tuple[int, ...]
    losses: tuple[float, ...]

    def reached(self, loss: float) -> float | None:
        """Seconds after which an evaluation first had `loss` or less; None if none had."""
        pairs = zip(self.seconds, self.losses, strict=True)
        return next((at for at, found in pairs if found <= loss), None)

    def record(self, loss: float) -> dict[str, Any]:
        """Where the run ended, and when it reached a loss."""
        return {
            "run": self.name, "loss": self.losses[-1], "seconds": self.seconds[-1],
            "tokens": self.tokens[-1], "reached_s": self.reached(loss),
        }  # fmt: skip


def read_curve(folder: Path) -> Curve:
    """The evaluations in the log of a run. Raises TrainingError where there are none."""
    if not (folder / NAME).is_file():
        raise TrainingError(
            f"{folder} is no run: it has no {NAME}; name folders that `train` wrote"
        )
    found = list(read_log(folder / NAME, "evaluation"))
    if not found:
        raise TrainingError(
            f"{folder} was never evaluated: set data.validation and evaluation.every, train again"
        )
    return Curve(
        folder.name, tuple(each["elapsed"] for each in found), tuple(each["D"] for each in found),
        tuple(each["L"] for each in found),
    )  # fmt: skip


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draws all curves to a picture: .png, .svg or .pdf. The first run's last loss is a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix not in KINDS:
        raise TrainingError(f"{path}: a picture is written as {', '.join(KINDS)}")
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    by_seconds, by_tokens = figure.subplots(1, 2, sharey=True)
    for curve in curves:
        by_seconds.plot(curve.seconds, curve.losses, "o-", ms=3, label=curve.name)
        by_tokens.plot(curve.tokens, curve.losses, "o-", ms=3)
    for axes, label in ((by_seconds, "seconds of training"), (by_tokens, "tokens read")):
        axes.axhline(curves[0].losses[-1], color="gray", lw=0.8, ls=":")
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
    by_seconds.set_ylabel("validation loss, nats a token")
    by_seconds.legend()
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=120, format=path.suffix[1:], metadata=picture_metadata(path))
