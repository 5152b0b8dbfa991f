"""A curriculum as a picture: the length drawn at every step, and its running mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lengthwise._utils.outputs import picture_metadata
from lengthwise.sequences.curricula import Curriculum
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import written_aside

# More dots than this cannot be told apart and only slow the drawing.
DOTS = 20_000
WINDOWS = 100


def plot(schedule: Curriculum, path: str | Path, *, epochs: int = 1) -> None:
    """Draws the lengths of all steps of `epochs` epochs into `path` (.png, .svg or .pdf).

    Raises SequenceError without matplotlib, or for a kind of file it cannot write.
    """
    path = Path(path)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SequenceError(
            "a picture needs matplotlib: pip install matplotlib, or leave out the picture"
        ) from error
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    kinds = FigureCanvasAgg(figure).get_supported_filetypes()
    if path.suffix[1:] not in kinds:
        raise SequenceError(
            f"{path}: a picture is written as .png, .svg or .pdf, not {path.suffix or 'no suffix'}"
        )
    lengths = np.concatenate([schedule.lengths(epoch) for epoch in range(epochs)])
    steps = np.arange(len(lengths))
    axes = figure.subplots()
    shown = steps[:: max(1, len(steps) // DOTS)]
    axes.plot(shown, lengths[shown], ".", ms=3, alpha=0.5, color="#4878a8", label="one step")
    windows = [w for w in np.array_split(steps, min(WINDOWS, len(steps))) if len(w)]
    # Every step has as many tokens, so the mean over steps is the mean over tokens.
    means = [float(lengths[w].mean()) for w in windows]
    axes.plot([float(w.mean()) for w in windows], means, color="#b04030", label="mean")
    axes.set_yscale("log", base=2)
    axes.set_yticks(list(schedule.batches), [f"{n:,}" for n in schedule.batches])
    axes.set_xlabel(f"step, {schedule.tokens_per_step:,} tokens each")
    axes.set_ylabel("tokens of a row")
    axes.set_title(f"{schedule.name}, {schedule.cycles} cycle(s) an epoch", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=120, format=path.suffix[1:], metadata=picture_metadata(path))
