"""The main job: many recipes on one text and the same questions, each with what it gave and cost.

For every length each recipe does three things:

1. It reads a copy of the document with probes planted in it. Every probe forks from that reading.
2. It reads a length at which full attention is valid, and is compared with it there.
3. It reads the prompt, timed, and answers every question from a fork of what it read.

One that chooses what enters the context writes a prompt for each question and probe (`prompted`).

Some recipes read exactly as full attention does, since they only act when the prompt has ended.
They share one reading unless told otherwise, and their rows say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence as Seq
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from lengthwise import recipes as recipe_module
from lengthwise.api.document_prompt import build_prompt
from lengthwise.api.given import require_count, texts
from lengthwise.api.model import Model
from lengthwise.api.remote_model import RemoteModel
from lengthwise.api.server_errors import ServerError
from lengthwise.documents.document import Document
from lengthwise.documents.folders import document_from
from lengthwise.errors import DocumentError, LengthwiseError, NotFinite, Refused
from lengthwise.evaluation.compare.answering import Answers
from lengthwise.evaluation.compare.known import Asking, Known, known_questions
from lengthwise.evaluation.compare.prompted import Prompted, prompted
from lengthwise.evaluation.compare.remote import RemoteRows
from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.choice import check_goal
from lengthwise.evaluation.metrics.expected import check_expected
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.quality import FIDELITY_LENGTH, FIDELITY_TOKENS, quality
from lengthwise.evaluation.metrics.reading import (
    REMEMBER,
    Case,
    EvaluationProgress,
    Reader,
    reads_as_full,
)
from lengthwise.evaluation.metrics.row import CompareRow, text_size
from lengthwise.evaluation.tasks.probes import ProbeSet, continuation, probe_context
from lengthwise.recipes import RecipeLike

__all__ = ["DEFAULT_QUESTION", "REMEMBER", "EvaluationProgress", "compare", "reads_as_full"]

DEFAULT_QUESTION = "What is this text about? Answer in one sentence."


def compare(
    model: Model | RemoteModel,
    document: str | PathLike[str] | Document | Seq[PathLike[str] | Document] | None = None,
    questions: str | Seq[str] = (),
    recipes: RecipeLike | Seq[RecipeLike] = "full",
    lengths: int | Seq[int] = (),
    *,
    max_new_tokens: int = 64,
    probes: bool | None = None,
    share: bool = True,
    chunk: int | None = None,
    progress: EvaluationProgress | None = None,
    expect: str | Seq[str] = (),
    goal: str | None = None,
    qa: Asking | None = None,
    plant: int = 0,
) -> Comparison:
    """Measures recipes on one text: a row for every length, recipe and question.

    `full` always runs first. KeyboardInterrupt, and a server that fails, end the run and return the
    finished rows.

    Args:
        model: of `lengthwise.load` or `lengthwise.wrap`; or of `lengthwise.connect`, for recipes
            that only choose what is read.
        document: text to read, a pathlib.Path, what `lengthwise.read` made of one path or several,
            or a list of paths and documents. None: the Python language reference.
        questions: one, or a list of them; none asks what the text is about.
        recipes: one, or a list of them, as text or as `Recipe`.
        lengths: one, or a list of them, in tokens of the document, cut from its start. None given:
            the whole document.
        max_new_tokens: most tokens of an answer.
        probes: also measure copy, needles, loss by position and fidelity. None does where the text
            is long enough for what is planted; where it is not, the notes say so.
        share: one reading for all recipes that read alike.
        chunk: tokens of a prefill forward; None leaves it to the device.
        progress: told what is going on.
        expect: an answer that is known, one for each question. Every answer is scored with it.
        goal: what `Comparison.best` picks for: "quality", "speed" or "memory". None tells the
            trade-off.
        qa: questions with their answers and evidence, in place of `questions` and `expect`: a path
            to such a file, or a list; `evaluation.tasks.qa` says how they look.
        plant: so many questions of our own, whose evidence is planted in the document.

    Returns:
        A `Comparison`. A recipe that is refused is a row with the reason.

    Raises:
        RecipeError: for a recipe that does not parse.
        DocumentError: for a document that cannot be read, or is shorter than a length asked for.
        LengthwiseError: for anything else that cannot be asked for.
    """
    if not isinstance(model, (Model, RemoteModel)):
        raise LengthwiseError(
            f"compare of a {type(model).__name__}: give a model of lengthwise.load, wrap or connect"
        )
    check_goal(goal)
    wanted_lengths, text = _counts(lengths), document_from(document)
    parsed = [recipe_module.Recipe(), *recipe_module.recipes_of(recipes)]
    own, answers = texts("questions", questions), texts("expect", expect)
    known = known_questions(model, text, wanted_lengths, qa, plant, (*own, *answers))
    asked = _Asked(
        known.questions or own or [DEFAULT_QUESTION], known.first_answers or answers,
        list(dict.fromkeys(map(str, parsed))), max_new_tokens, probes, share, chunk,
        progress or EvaluationProgress(), known,
    )  # fmt: skip
    # What is planted stands in the text of its length.
    rows, interrupted = _run(_measured(model, [] if plant else wanted_lengths, asked), asked)
    trained = model.told_length if isinstance(model, RemoteModel) else model.trained_length
    return Comparison(rows, text.name, trained, Origin.here(), interrupted, goal)


def _run(measured: Iterable[CompareRow], asked: _Asked) -> tuple[list[CompareRow], bool]:
    """The rows that were measured, and whether the run was stopped before the last of them."""
    rows: list[CompareRow] = []
    try:
        for row in measured:
            rows.append(row)
            asked.progress.row(row)
    except (KeyboardInterrupt, ServerError) as stopped:
        if not rows:
            raise
        if isinstance(stopped, ServerError):
            asked.progress.note(f"stopped: {stopped}")
        return rows, True
    return rows, False


@dataclass(frozen=True)
class _Asked:
    """What is asked of every length, under the names that `compare` gives it.

    recipes: their texts, none twice.
    """

    questions: Seq[str]
    expect: Seq[str]
    recipes: Seq[str]
    max_new_tokens: int
    probes: bool | None
    share: bool
    chunk: int | None
    progress: EvaluationProgress
    known: Known

    def __post_init__(self) -> None:
        require_count("max_new_tokens", self.max_new_tokens)
        if self.chunk is not None:
            require_count("chunk", self.chunk)
        check_expected(self.expect, len(self.questions))


def _measured(model: Model | RemoteModel, lengths: Seq[int], asked: _Asked) -> Iterator[CompareRow]:
    """The rows of a model, here or behind a server; raises for what is wrong before any runs."""
    document = asked.known.document
    if isinstance(model, RemoteModel):
        if asked.probes or asked.chunk is not None:
            raise Refused(
                f"{model.name} is behind a server, which tells no losses and reads as it likes",
                "leave out probes and chunk",
            )
        far = RemoteRows(
            model, asked.known, asked.questions, asked.expect, asked.max_new_tokens, asked.progress
        )
        return far.rows(lengths, asked.recipes)
    # A document cannot end the prompt it stands in.
    ids = model.encode(document.text, special="text")
    return _rows(model, ids, _lengths(ids, lengths), asked)


def _rows(model: Model, ids: Seq[int], lengths: Seq[int], asked: _Asked) -> Iterator[CompareRow]:
    """The rows of every length, in their order."""
    checked = False
    for length in lengths:
        case = _case(model, ids[:length], length == len(ids), asked)
        for note in case.notes:
            asked.progress.note(note)
        if not checked:
            _check_recipes(model, asked.recipes)
            checked = True
        for recipe in asked.recipes:
            yield from _measure(model, case, recipe, asked)


def _check_recipes(model: Model, recipes: Seq[str]) -> None:
    """Raises for a recipe that is wrong, by a missing file say, before any is measured; one that
    is refused becomes a row later."""
    for recipe in recipes:
        with suppress(Refused):
            recipe_module.resolve(recipe, model.adapted)


def _counts(lengths: int | Seq[int]) -> list[int]:
    """One length or several as a list. Raises LengthwiseError for what is none."""
    several = isinstance(lengths, Iterable) and not isinstance(lengths, (str, bytes))
    found: list[Any] = list(lengths) if several else [lengths]  # type: ignore[arg-type]
    for each in found:
        require_count("lengths", each)
    return [int(each) for each in found]


def _lengths(ids: Seq[int], lengths: Seq[int]) -> list[int]:
    for length in lengths:
        if length > len(ids):
            raise DocumentError(
                f"length {length:,} is more than the {len(ids):,} tokens of the document; give a "
                "smaller --length or a longer document"
            )
    return list(dict.fromkeys(lengths)) or [len(ids)]


def _case(model: Model, ids: Seq[int], whole: bool, asked: _Asked) -> Case:
    prompt = build_prompt(model, ids, asked.questions)
    text, evidence, notes = asked.known.of(model, ids, whole)
    case = Case(
        len(ids), tuple(ids), prompt, quality=False, notes=notes, expected=asked.expect, text=text,
        answers=asked.known.answers, evidence=evidence,
    )  # fmt: skip
    if asked.probes is False:
        return case
    valid = min(len(ids), model.trained_length, FIDELITY_LENGTH)
    count = min(FIDELITY_TOKENS, valid // 2)
    planted, left_out = _planted(model, ids, must=asked.probes is True)
    return replace(
        case, quality=True, probes=planted, notes=(*notes, *left_out),
        fidelity=continuation(ids, valid, count) if count else None,
    )  # fmt: skip


def _planted(model: Model, ids: Seq[int], must: bool) -> tuple[ProbeSet | None, tuple[str, ...]]:
    """The probes in a document; None with the reason where it is too short for them."""
    try:
        return probe_context(ids, model.tokenizer, len(ids)), ()  # type: ignore[arg-type]
    except LengthwiseError as error:
        if must:
            raise type(error)(f"{error}; or leave the probes out (--no-probes)") from error
        return None, (f"probes are left out: {error}",)


def _measure(model: Model, case: Case, recipe: str, asked: _Asked) -> Iterator[CompareRow]:
    base = CompareRow(
        recipe=recipe, model=model.name, dtype=model.adapted.dtype_text,
        device=str(model.adapted.device), length=case.length, **text_size(case.text),
    )  # fmt: skip
    questions = case.prompt.questions
    try:
        if (found := prompted(recipe)) is not None:
            run = Prompted(model, case, found, asked.max_new_tokens, asked.chunk, asked.progress)
            yield from run.rows(base)
            return
        plan = model.plan(recipe)
        plan.check_prompt(len(case.prompt.prefix) + max(map(len, case.prompt.suffixes)))
        alike = reads_as_full(plan)
        reader = Reader(model, case, plan, asked.share and alike, asked.chunk, asked.progress)
        base = replace(base, reads_as_full=alike, **quality(reader))
        answers = Answers(reader, recipe, asked.max_new_tokens)
        for number, question in enumerate(questions):
            yield replace(base, question=question, **answers.answer(number))
    except (Refused, NotFinite) as refusal:
        for question in questions:
            yield replace(base, question=question, refused=str(refusal))
