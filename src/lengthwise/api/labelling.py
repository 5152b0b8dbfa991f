"""`lengthwise.label`: many items and a task; out comes a label for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence as Seq
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.api.model import Model
from lengthwise.api.text_models import as_text_model, identity
from lengthwise.documents.item_files import Item, read_items
from lengthwise.errors import LengthwiseError
from lengthwise.methods.prompts import TextModel
from lengthwise.recipes import RecipeLike, recipe_of
from lengthwise.workflows.batch_results import LABELS, Results
from lengthwise.workflows.batchprompt import BatchPrompt, Cost, Labelled, Task


@dataclass(frozen=True)
class Labels:
    """Labels of items, in the order of the items.

    before: how many were done in an earlier run. cost: of this run. notes: what was not as asked.
    """

    items: tuple[Labelled, ...]
    before: int = 0
    cost: Cost = field(default_factory=Cost)
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str | None]:
        """The label of each item; None where every answer abstained."""
        return [each.label for each in self.items]


def label(
    model: Model | TextModel,
    items: str | PathLike[str] | Seq[str],
    task: str,
    labels: Seq[str] | None = None,
    *,
    recipe: RecipeLike = "full",
    size: int = 32,
    rounds: int = 5,
    early: bool = True,
    doubt: float = 1.0,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    force: bool = False,
    field: str = "text",
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Labels:
    """Labels many items, several of them a prompt, by a vote over several orders (BatchPrompt).

    Args:
        model: of `lengthwise.load` or `lengthwise.wrap`, with a tokenizer; or a text model.
        items: texts; or the path of a file with one a line, as text or as JSON objects.
        task: what is asked of each item, in words, with examples if there are any.
        labels: those allowed, at least two; None is any short text.
        recipe: under which a model of ours reads and writes.
        size: items a prompt.
        rounds: how often an item is asked about, each time in another order.
        early: whether an item leaves when two rounds in a row agree, both confident.
        doubt: weight of a vote that the model is not confident of, 0 to 1; 1 is a plain majority.
        seed: of the orders.
        out: a file for the labels, a JSON line an item as it is done. The same call goes on behind
            them. None keeps nothing.
        force: begin anew, whatever lies at `out`.
        field: of JSON objects, that holds the text.
        progress: called with the number of items that are done, and of all.
        note: called with each thing that the user should know, as it comes up.

    Returns:
        The labels, with their votes and what they cost.

    Raises:
        LengthwiseError: for items, a task or labels that are none, and for an `out` that is another
            job's.
        DocumentError: for a file of items that cannot be read, with its line.
    """
    how = BatchPrompt(size, rounds, early, doubt, seed)
    given = given_items(items, field)
    asked = given_task(task, labels)
    reader = as_text_model(model, recipe)
    run = _Labelling(reader, how, asked, given, progress or (lambda done, of: None), note)
    if out is None:
        return run.all(None)
    place = Path(out)
    check_outputs([Output("out", place, LABELS)], [], force or _empty(place))
    job = {**job_of(given, asked, recipe, how), "model": identity(reader)}
    with Results(place, job, given, force) as results:
        return run.all(results)


def given_items(items: str | PathLike[str] | Seq[str], field: str = "text") -> list[Item]:
    """Items as they were given.

    Args:
        items, field: as in `label`.

    Raises:
        LengthwiseError: for an empty list, and an item that is no text or an empty one.
        DocumentError: for a file that cannot be read, with its line.
    """
    if isinstance(items, (str, PathLike)):
        return read_items(items, field)
    found = []
    for number, text in enumerate(items, 1):
        if not isinstance(text, str) or not text.strip():
            raise LengthwiseError(f"item {number} is {text!r}: give a text that is not empty")
        found.append(Item(text, number))
    if not found:
        raise LengthwiseError("there are no items; give texts, or the path of a file of them")
    return found


def given_task(task: str, labels: Seq[str] | None) -> Task:
    """A task as it was given.

    Args:
        task, labels: as in `label`.

    Raises:
        LengthwiseError: for an empty task, and for labels that are fewer than two, empty, over
            several lines, or twice the same but for case.
    """
    if not isinstance(task, str) or not task.strip():
        raise LengthwiseError(f"task={task!r}: say in words what is asked of each item")
    if labels is None:
        return Task(task)
    if isinstance(labels, str) or not all(isinstance(each, str) for each in labels):
        raise LengthwiseError(f"labels={labels!r}: give a list of texts, or None for any text")
    names = tuple(each.strip() for each in labels)
    for number, name in enumerate(names):
        if not name or "\n" in name or not any(map(str.isalnum, name)):
            raise LengthwiseError(f"labels: {name!r} is none; give words of one line each")
        if name.casefold() in (other.casefold() for other in names[:number]):
            raise LengthwiseError(f"labels: {name!r} is given twice; give each label once")
    if len(names) < 2:
        raise LengthwiseError(
            f"labels: {', '.join(names) or 'none'}; give two or more, or leave them out for any "
            "short text"
        )
    return Task(task, names)


def job_of(items: Seq[Item], task: Task, recipe: RecipeLike, how: BatchPrompt) -> dict[str, Any]:
    """What decides the labels, but for the model, by names for messages.

    Args:
        items: all of them.
        task: what is asked.
        recipe: under which a model of ours reads.
        how: batches, rounds and votes.
    """
    said = json.dumps([[each.text, each.id] for each in items]).encode()
    return {"items": hashlib.sha256(said).hexdigest(), "task": task.text,
            "labels": None if task.labels is None else list(task.labels),
            "recipe": str(recipe_of(recipe)), **asdict(how)}  # fmt: skip


def _empty(out: Path) -> bool:
    """Whether a file holds nothing: a crash may have left one so."""
    return out.is_file() and not out.stat().st_size


@dataclass
class _Labelling:
    """One run over items."""

    model: TextModel
    how: BatchPrompt
    task: Task
    items: Seq[Item]
    progress: Callable[[int, int], None]
    told: Callable[[str], None] | None

    def all(self, results: Results | None) -> Labels:
        """Labels what has no label yet."""
        done = {} if results is None else results.done
        before, cost, notes = len(done), Cost(), list[str]()

        def note(said: str) -> None:
            notes.append(said)
            if self.told is not None:
                self.told(said)

        if before:
            note(f"{before:,} of {len(self.items):,} items were done before")
        self.progress(before, len(self.items))
        texts = [each.text for each in self.items]
        running = self.how.label(self.model, self.task, texts, frozenset(done), cost, note)
        try:
            for each in running:
                if results is not None:
                    results.add(each)
                else:
                    done[each.item] = each
                self.progress(len(done), len(self.items))
        except LengthwiseError as error:
            if results is None:
                raise
            raise LengthwiseError(
                f"{error}; {len(done):,} of {len(self.items):,} items are kept in {results.out}, "
                "and the same call goes on behind them"
            ) from error
        without = sum(each.label is None for each in done.values())
        if without:
            note(f"{without:,} items have no label: no answer about them could be read")
        return Labels(tuple(done[n] for n in sorted(done)), before, cost, tuple(notes))


__all__ = ["Labels", "label"]
