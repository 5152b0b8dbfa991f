"""The main job: many recipes on one text and the same questions, each with what it gave and cost.

For every length each recipe (1) reads a copy of the document with probes planted in it, from which
every probe forks; (2) reads a length at which full attention is valid and is compared with it
there; (3) reads the prompt, timed, and answers every question from a fork of what it read. Recipes
that read exactly as full attention does (they only act when the prompt has ended) share one reading
unless told otherwise; such rows say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence as Seq
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from typing import Any

from lengthwise import recipes as recipe_module
from lengthwise.api import Model
from lengthwise.engine import loop
from lengthwise.errors import DocumentError, LengthwiseError, NotFinite, Refused
from lengthwise.given import require_count, texts
from lengthwise.measure.answering import Answers
from lengthwise.measure.choice import check_goal
from lengthwise.measure.expected import check_expected
from lengthwise.measure.origin import Origin
from lengthwise.measure.prompts import build_prompt
from lengthwise.measure.quality import FIDELITY_LENGTH, FIDELITY_TOKENS, quality
from lengthwise.measure.reading import REMEMBER, Case, Reader, Watcher, reads_as_full
from lengthwise.measure.rows import Row, Rows
from lengthwise.recipes import RecipeLike
from lengthwise.tasks.documents import Document
from lengthwise.tasks.folders import document_from
from lengthwise.tasks.probes import ProbeSet, continuation, probe_context

__all__ = ["DEFAULT_QUESTION", "REMEMBER", "Watcher", "compare", "reads_as_full"]

DEFAULT_QUESTION = "What is this text about? Answer in one sentence."


def compare(
    model: Model,
    document: str | PathLike[str] | Document | Seq[PathLike[str] | Document] | None = None,
    questions: str | Seq[str] = (),
    recipes: RecipeLike | Seq[RecipeLike] = "full",
    lengths: int | Seq[int] = (),
    *,
    max_new_tokens: int = 64,
    probes: bool | None = None,
    share: bool = True,
    chunk: int = loop.CHUNK,
    watcher: Watcher | None = None,
    expect: str | Seq[str] = (),
    goal: str | None = None,
) -> Rows:
    """Rows for every length, recipe and question; `full` always runs first.

    document: text to read, a pathlib.Path, what `lengthwise.read` made of one path or several, or
    None for the Python reference. questions, recipes, lengths: one, or a list of them.
    lengths: tokens of document that are used, cut from its start; none means the whole document.
    probes: also measure copy, needles, loss by position and fidelity; None does where the text is
    long enough for what is planted, and else leaves that out and says so in the notes. share: one
    reading for all recipes that read alike. expect: an answer that is known, one for each question,
    which every answer is scored with. goal: what `Rows.best` picks for, "quality", "speed" or
    "memory"; None tells the trade-off. Raises RecipeError for a recipe that does not parse; one
    that is refused becomes a row with the reason. KeyboardInterrupt ends the run and returns the
    finished rows.
    """
    if not isinstance(model, Model):
        raise LengthwiseError(
            f"compare of a {type(model).__name__}: give a model of lengthwise.load or wrap"
        )
    check_goal(goal)
    require_count("max_new_tokens", max_new_tokens)
    require_count("chunk", chunk)
    wanted_lengths = _counts(lengths)
    known = texts("expect", expect)
    wanted = texts("questions", questions) or [DEFAULT_QUESTION]
    check_expected(known, len(wanted))
    text = document_from(document)
    parsed = [recipe_module.Recipe(), *recipe_module.recipes_of(recipes)]
    unique = list(dict.fromkeys(str(r) for r in parsed))
    # A document cannot end the prompt it stands in.
    ids = model.encode(text.text, special="text")
    cases = _lengths(ids, wanted_lengths)
    rows: list[Row] = []
    watcher = watcher or Watcher()
    try:
        for length in cases:
            case = _case(model, ids[:length], wanted, probes)
            case.expected = known
            for note in case.notes:
                watcher.note(note)
            if not rows:
                _check_recipes(model, unique)
            for recipe in unique:
                for row in _measure(model, case, recipe, max_new_tokens, share, chunk, watcher):
                    rows.append(row)
                    watcher.row(row)
        interrupted = False
    except KeyboardInterrupt:
        if not rows:
            raise
        interrupted = True
    return Rows(rows, text.name, model.trained_length, Origin.here(), interrupted, goal)


def _check_recipes(model: Model, recipes: Seq[str]) -> None:
    """Raises for a recipe that is wrong, by a missing file say, before any is measured; one that
    is refused becomes a row later."""
    for recipe in recipes:
        with suppress(Refused):
            model.plan(recipe)


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


def _case(model: Model, ids: Seq[int], questions: Seq[str], probes: bool | None) -> Case:
    prompt = build_prompt(model, ids, questions)
    if probes is False:
        return Case(len(ids), tuple(ids), prompt, quality=False)
    valid = min(len(ids), model.trained_length, FIDELITY_LENGTH)
    count = min(FIDELITY_TOKENS, valid // 2)
    planted, notes = _planted(model, ids, must=probes is True)
    return Case(
        len(ids), tuple(ids), prompt, quality=True, probes=planted,
        fidelity=continuation(ids, valid, count) if count else None, notes=notes,
    )  # fmt: skip


def _planted(model: Model, ids: Seq[int], must: bool) -> tuple[ProbeSet | None, tuple[str, ...]]:
    """The probes in a document; None with the reason where it is too short for them."""
    try:
        return probe_context(ids, model.tokenizer, len(ids)), ()  # type: ignore[arg-type]
    except LengthwiseError as error:
        if must:
            raise type(error)(f"{error}; or leave the probes out (--no-probes)") from error
        return None, (f"probes are left out: {error}",)


def _measure(
    model: Model, case: Case, recipe: str, new: int, share: bool, chunk: int, watcher: Watcher
) -> Iterator[Row]:
    base = Row(
        recipe=recipe, model=model.name, dtype=str(model.adapted.dtype).removeprefix("torch."),
        device=str(model.adapted.device), length=case.length,
    )  # fmt: skip
    questions = case.prompt.questions
    try:
        plan = model.plan(recipe)
        plan.check_prompt(len(case.prompt.prefix) + max(map(len, case.prompt.suffixes)))
        alike = reads_as_full(plan)
        reader = Reader(model, case, plan, share and alike, chunk, watcher)
        base = replace(base, reads_as_full=alike, **quality(reader))
        answers = Answers(reader, recipe, new)
        for number, question in enumerate(questions):
            yield replace(base, question=question, **answers.answer(number))
    except (Refused, NotFinite) as refusal:
        for question in questions:
            yield replace(base, question=question, refused=str(refusal))
