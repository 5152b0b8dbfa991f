"""A model's threshold: found on examples, kept in a file, used on new prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence as Seq
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from lengthwise._utils.files import write_text
from lengthwise._utils.messages import first_line
from lengthwise._utils.outputs import Kind
from lengthwise._utils.version import __version__
from lengthwise.api.model import Model
from lengthwise.api.prompts import Prompt
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.pac.examples import Example
from lengthwise.evaluation.pac.holes import BUDGETS, HOLES
from lengthwise.evaluation.pac.predicting import NEW_TOKENS, predict_programs
from lengthwise.evaluation.pac.program_tree import ProgramNode, with_holes
from lengthwise.evaluation.pac.threshold import allowed_errors, choose
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.recipes import recipe_of

FORMAT = "lengthwise pac calibration"
VERSION = 1
BATCH = 8
# The released code's delta; its epsilons go from 0.03 to 0.65.
EPSILON, DELTA = 0.2, 0.1


@dataclass(frozen=True)
class PacCalibration:
    """What holds of a model's programs: with a confidence of 1 - delta the right one completes at
    least 1 - epsilon of them, drawn as the examples were.

    chosen: number of the threshold, -1 where nothing may be kept. budget: of it, in nats. errors:
    among the examples, of those that were allowed. kept: mean share of nodes kept on them.
    """

    model: str
    fingerprint: str
    dtype: str
    recipe: str
    epsilon: float
    delta: float
    holes: int
    max_new_tokens: int
    stop: tuple[str, ...]
    chosen: int
    budget: float
    examples: int
    allowed: int
    errors: int
    kept: float

    def save(self, path: str | PathLike[str]) -> None:
        """Writes it aside, and then in its place.

        Args:
            path: of the file.
        """
        held = {"format": FORMAT, "version": VERSION, "library": __version__, **asdict(self)}
        # JSON has no infinity.
        held["budget"] = None if self.budget == float("inf") else self.budget
        write_text(path, json.dumps(held, indent=1) + "\n")


@dataclass(frozen=True)
class PartialProgram:
    """A program with a sign for each subtree that was left out.

    text: it; one sign alone where nothing is kept. source: the whole program that the model wrote.
    kept: nodes that are kept. nodes: that the model wrote.
    """

    text: str
    source: str
    kept: int
    nodes: int


def calibrate_pac(
    model: Model, examples: Seq[Example], recipe: str = "full", *, epsilon: float = EPSILON,
    delta: float = DELTA, holes: int = HOLES, max_new_tokens: int = NEW_TOKENS,
    stop: Seq[str] = (), progress: Callable[[int, int], None] | None = None,
) -> PacCalibration:  # fmt: skip
    """Finds the least strict threshold that examples vouch for.

    Args:
        model: whose programs are to be trusted.
        examples: drawn as the prompts to come will be.
        recipe: under which it writes.
        epsilon: share of programs that may be wrong.
        delta: probability that more are.
        holes: of a program, at most.
        max_new_tokens: of a program, at most.
        stop: strings that end one.
        progress: called with examples done and all.

    Raises:
        LengthwiseError: before anything runs, for too few examples and arguments other than these.
    """
    allowed = allowed_errors(len(examples), epsilon, delta)
    _require_holes(holes)
    rights = [each.tree() for each in examples]
    firsts: list[int] = []
    shares: list[list[float]] = []
    for start in range(0, len(examples), BATCH):
        part = examples[start : start + BATCH]
        found = predict_programs(
            model, [each.prompt for each in part], [each.begin for each in part], recipe,
            max_new_tokens, stop,
        )  # fmt: skip
        for each, right in zip(found, rights[start : start + BATCH], strict=True):
            firsts.append(each.first_error(right, holes))
            shares.append([_counted(each.program, kept) for kept in each.kept(holes)])
        if progress is not None:
            progress(len(firsts), len(examples))
    chosen, errors = choose(firsts, len(BUDGETS), allowed)
    kept = sum(each[chosen] for each in shares) / len(shares) if chosen >= 0 else 0.0
    return PacCalibration(
        model.name, fingerprint_now(model.adapted), model.adapted.dtype_text,
        str(recipe_of(recipe)), epsilon, delta, holes, max_new_tokens, tuple(stop), chosen,
        BUDGETS[chosen] if chosen >= 0 else 0.0, len(examples), allowed, errors, kept,
    )  # fmt: skip


def predict_pac(
    model: Model, calibration: PacCalibration, prompt: Prompt, begin: str = ""
) -> PartialProgram:
    """The part of a model's program that the calibration vouches for.

    Args:
        model: the calibration's.
        calibration: as `calibrate_pac` or `open_calibration` gave it.
        prompt: as for `Model.generate`.
        begin: what of the program the prompt ends with.

    Raises:
        LengthwiseError: for another model's calibration, and as `Model.generate` does.
    """
    _require_same(model, calibration, "the calibration")
    (found,) = predict_programs(
        model, [prompt], [begin], calibration.recipe, calibration.max_new_tokens, calibration.stop
    )
    if found.program is None:
        return PartialProgram("??", found.source, 0, 0)
    nodes = found.program.preorder()
    kept = [False] * len(nodes)
    if calibration.chosen >= 0:
        kept = found.kept(calibration.holes)[calibration.chosen]
    return PartialProgram(
        with_holes(found.source, found.program, kept), found.source,
        sum(keep and node.tokens > 0 for keep, node in zip(kept, nodes, strict=True)),
        sum(node.tokens > 0 for node in nodes),
    )  # fmt: skip


def open_calibration(path: str | PathLike[str], model: Model | None = None) -> PacCalibration:
    """A calibration out of its file.

    Args:
        path: of the file.
        model: whose it must be; None asks nothing.

    Raises:
        LengthwiseError: for a file that is none, is damaged or of another version, and for one of
            another model.
    """
    name = fspath(path)
    try:
        held: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise LengthwiseError(f"{name}: cannot be read ({first_line(error)})") from None
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict) or held.pop("format", None) != FORMAT:
        raise LengthwiseError(f"{name}: this is no calibration; make one: lengthwise pac calibrate")
    version = held.pop("version", None)
    held.pop("library", None)
    if version != VERSION:
        raise LengthwiseError(f"{name}: version {version} cannot be read here; make it again")
    try:
        held["budget"] = float("inf") if held["budget"] is None else float(held["budget"])
        found = PacCalibration(**{**held, "stop": tuple(held["stop"])})
        right = -1 <= found.chosen < len(BUDGETS) and found.holes >= 1
        right = right and found.budget == (BUDGETS[found.chosen] if found.chosen >= 0 else 0.0)
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise LengthwiseError(f"{name}: this calibration is damaged; make it again")
    if model is not None:
        _require_same(model, found, name)
    return found


def _require_same(model: Model, calibration: PacCalibration, name: str) -> None:
    for what, theirs, ours in (
        ("weights", calibration.fingerprint, fingerprint_now(model.adapted)),
        ("dtype", calibration.dtype, model.adapted.dtype_text),
    ):
        if theirs != ours:
            raise LengthwiseError(
                f"{name} is of {calibration.model} in {calibration.dtype}, and this is "
                f"{model.name} in {model.adapted.dtype_text} of other {what}; calibrate this one"
            )


def _require_holes(holes: int) -> None:
    if isinstance(holes, bool) or not isinstance(holes, int) or not 1 <= holes <= 10:
        raise LengthwiseError(f"holes={holes!r}: allowed is 1 to 10")


def _counted(program: ProgramNode | None, kept: Seq[bool]) -> float:
    """Share of the nodes that the model wrote that are kept."""
    if program is None:
        return 0.0
    wrote = [node.tokens > 0 for node in program.preorder()]
    return sum(k and w for k, w in zip(kept, wrote, strict=True)) / max(1, sum(wrote))


def _is_calibration(path: Path) -> bool:
    try:
        open_calibration(path)
    except LengthwiseError:
        return False
    return True


CALIBRATION = Kind("calibration", _is_calibration)

__all__ = [
    "CALIBRATION", "DELTA", "EPSILON", "PacCalibration", "PartialProgram", "calibrate_pac",
    "open_calibration", "predict_pac",
]  # fmt: skip
