"""`lengthwise.write`: an instruction and a number of words; out comes a long text, part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.api.model import Model
from lengthwise.api.text_model import LocalText
from lengthwise.api.text_models import as_text_model, identity
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.methods.prompts import TextModel
from lengthwise.recipes import RecipeLike, recipe_of
from lengthwise.tokenization.words import count_words
from lengthwise.workflows.agentwrite import (
    MOST,
    MOST_PARTS,
    AgentWrite,
    Plan,
    WrittenPart,
    joined_parts,
    notes_of,
)  # fmt: skip
from lengthwise.workflows.writing_journal import LONG_TEXT, Journal, journal_of
from lengthwise.workflows.writing_plan import Part, read_plan, usable

MOST_WORDS = MOST * MOST_PARTS
# Of one of ours, where nothing else is said: greedy small models go round in circles.
REPETITION_PENALTY = 1.1


@dataclass(frozen=True)
class LongText:
    """A long text. asked: words. plan, parts: what was to be written, and what was.

    before: how many of the parts were there from an earlier run. notes: what was not as asked for.
    """

    text: str
    asked: int
    plan: tuple[Part, ...]
    parts: tuple[WrittenPart, ...]
    before: int = 0
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        """How many it has."""
        return count_words(self.text)


def write(
    model: Model | TextModel,
    instruction: str,
    words: int,
    *,
    recipe: RecipeLike = "full",
    plan: str | None = None,
    out: str | PathLike[str] | None = None,
    force: bool = False,
    part_words: int = 400,
    repeats: int = 1,
    remembered: int | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    repetition_penalty: float | None = None,
    seed: int = 0,
    stream: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> LongText:
    """Writes a long text: a plan first, and then part by part (AgentWrite).

    Args:
        model: of `lengthwise.load` or `lengthwise.wrap`, with a tokenizer; or a text model.
        instruction: what is asked for.
        words: of the whole text, 1 to 50,000.
        recipe: under which a model of ours reads and writes.
        plan: a line a part, "Part 1 - Main point: where to begin - Words: 400"; None asks the model
            for one.
        out: a file for the text. Each part is kept beside it as soon as it is done, and the same
            call goes on behind them. None keeps nothing.
        force: begin anew, whatever lies at `out`.
        part_words: of a part, in the request for a plan, 200 to 1,000.
        repeats: most times that one sentence may be said in all of the text; 0 is any number.
        remembered: tokens of the text so far that a part is shown; None is all that there is room
            for.
        temperature, top_p, repetition_penalty, seed: how tokens are chosen, as in `Model.generate`;
            1 is the temperature of the released code, and greedy small models go round in circles.
            A penalty of None is 1.1 for a model of ours, and none for one behind a server.
        stream: called with each piece of the text as it comes, of parts that were not there yet.
        note: called with each thing that the user should know, as it comes up.

    Returns:
        The text, its plan and its parts.

    Raises:
        LengthwiseError: for an instruction, a number of words or a plan that is none, and for an
            `out` that is another job's.
    """
    how = AgentWrite(part_words=part_words, repeats=repeats, remembered=remembered)
    penalty = penalty_of(repetition_penalty, isinstance(model, (Model, LocalText)))
    sampling = Sampling(temperature, 0, top_p, 0.0, penalty, seed)
    job = job_of(instruction, words, recipe, plan, how, sampling)
    writer = as_text_model(model, recipe, sampling)
    told = note or (lambda said: None)
    given = None if plan is None else how.fit(given_plan(plan, words), words)
    if out is None:
        return _written(writer, job, how, given, None, (stream, told))
    place = Path(out)
    check_outputs([Output("out", place, LONG_TEXT)], [], force)
    with Journal(place, {**job, "model": identity(writer)}, force) as journal:
        return _written(writer, job, how, given, journal, (stream, told))


def penalty_of(given: float | None, ours: bool) -> float:
    """The repetition penalty that is meant.

    Args:
        given: as in `write`.
        ours: whether the model runs here.
    """
    if given is None:
        return REPETITION_PENALTY if ours else 1.0
    return given


def job_of(
    instruction: str, words: int, recipe: RecipeLike, plan: str | None, how: AgentWrite,
    sampling: Sampling,
) -> dict[str, Any]:  # fmt: skip
    """What decides what is written, but for the model, by names for messages.

    Args:
        instruction, words, recipe, plan: as in `write`.
        how: parts, and how they are asked for.
        sampling: how tokens are chosen.

    Raises:
        LengthwiseError: for an instruction or a number of words that is none.
    """
    if not isinstance(instruction, str) or not instruction.strip():
        raise LengthwiseError(f"instruction={instruction!r}: give a text that is not empty")
    if isinstance(words, bool) or not isinstance(words, int) or not 1 <= words <= MOST_WORDS:
        raise LengthwiseError(
            f"words={words!r}: give a whole number, 1 to {MOST_WORDS:,} ({MOST_PARTS} parts of "
            f"{MOST:,} words, the most that AgentWrite plans)"
        )
    return {"instruction": instruction, "words": words, "plan": plan,
            "recipe": str(recipe_of(recipe)), **asdict(how), **asdict(sampling)}  # fmt: skip


def given_plan(plan: str, words: int) -> list[Part]:
    """The parts of a user's own plan.

    Args:
        plan: a line a part.
        words: of the whole text.

    Raises:
        LengthwiseError: for a text without parts, or with more than 50, or with parts so few that
            one of them would have more than 1,000 words.
    """
    parts = read_plan(plan)
    form = "write a line a part, such as 'Part 1 - Main point: where to begin - Words: 400'"
    if not parts:
        raise LengthwiseError(f"the plan has no part that can be read; {form}")
    if not usable(parts, words, MOST_PARTS, MOST):
        raise LengthwiseError(
            f"the plan has {len(parts)} parts for {words:,} words; give {-(-words // MOST)} to "
            f"{min(MOST_PARTS, words)}; {form}"
        )
    return parts


def _written(
    model: TextModel, job: Mapping[str, Any], how: AgentWrite, given: Plan | None,
    journal: Journal | None, sinks: tuple[Callable[[str], None] | None, Callable[[str], None]],
) -> LongText:  # fmt: skip
    stream, told = sinks
    try:
        return _went_on(model, job, how, given, journal, stream, told)
    except LengthwiseError as error:
        if journal is None:
            raise
        raise LengthwiseError(
            f"{error}; {len(journal.parts)} parts are kept in {journal_of(journal.out)}, and the "
            "same call goes on behind them"
        ) from error


def _went_on(
    model: TextModel, job: Mapping[str, Any], how: AgentWrite, given: Plan | None,
    journal: Journal | None, stream: Callable[[str], None] | None, told: Callable[[str], None],
) -> LongText:  # fmt: skip
    instruction, words = job["instruction"], job["words"]
    plan = journal.plan if journal is not None else None
    done = list(journal.parts) if journal is not None else []
    if plan is None:
        plan = given or how.plan(model, instruction, words)
        if journal is not None:
            journal.add_plan(plan)
        for each in plan.notes:
            told(each)
    before = len(done)
    if before:
        way = "; --force, or force=True, begins anew" if before == len(plan.parts) else ""
        told(f"{before} of {len(plan.parts)} parts were written before{way}")
    for part in how.parts(model, instruction, plan.parts, [each.text for each in done], stream):
        done.append(part)
        if journal is not None:
            journal.add_part(part)
    if journal is not None:
        journal.end()
    notes = notes_of(done, how.enough)
    for each in notes:
        told(each)
    text = joined_parts([part.text for part in done])
    return LongText(text, words, plan.parts, tuple(done), before, (*plan.notes, *notes))


__all__ = ["LongText", "write"]
