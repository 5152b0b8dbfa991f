"""Tasks under recipes: every sample answered under each, scored, and kept as it is done."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence as Seq
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lengthwise._utils.progress import Progress
from lengthwise.api.given import require_count
from lengthwise.api.model import Model
from lengthwise.api.remote_model import RemoteModel
from lengthwise.api.text_model import LocalText
from lengthwise.api.text_models import identity
from lengthwise.documents.document import Document
from lengthwise.documents.folders import document_from
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.runs.replies import Replies, Reply, no_laws, replies_of
from lengthwise.evaluation.runs.run_file import RunFile
from lengthwise.evaluation.tasks.benchmark import NoRoom, Sample, Task, Wanted, tasks_of
from lengthwise.recipes import RecipeLike, recipes_of

# Where nothing is said: samples of a task, length and depth; tokens of them.
SAMPLES, LENGTH = 10, 4096
# Characters of a fact that a row keeps.
_SHORT = 64
_Key = tuple[str, int, float | None, int, str]


@dataclass
class Evaluation:
    """What a run found.

    rows: one a sample and recipe. seconds: of all of it. asked_s: of them, in the model and in what
    chooses for it. notes: what was left out. model: its name. trained_length: tokens it was trained
    to read; None where a server does not say. origin: machine, versions and command.
    """

    rows: list[SampleRow] = field(default_factory=list)
    seconds: float = 0.0
    asked_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    model: str = ""
    trained_length: int | None = None
    origin: Origin | None = None

    @property
    def overhead(self) -> float:
        """The share of the time in which no model ran: samples, scores, files."""
        return 1 - self.asked_s / self.seconds if self.seconds else 0.0


def evaluate(
    model: Model | RemoteModel,
    tasks: str | Seq[str],
    recipes: RecipeLike | Seq[RecipeLike] = "full",
    *,
    lengths: Seq[int] = (),
    depths: Seq[float] = (),
    samples: int = SAMPLES,
    seed: int = 0,
    document: str | os.PathLike[str] | Document | Seq[os.PathLike[str] | Document] | None = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores recipes on benchmarks by length.

    Args:
        model: of `lengthwise.load`, `wrap` or `connect`.
        tasks: benchmarks or tasks of them, such as "ruler/vt" or "needle(needles=4)".
        recipes: one, or several to compare.
        lengths: tokens of a prompt with its reply; none is 4,096, or what the model was trained to
            read where that is less.
        depths: where in the text the answer is to stand, from 0 to 1; none leaves it to the task.
            Of a task whose samples are the same at any depth each is asked once.
        samples: of each task, length and depth.
        seed: of all that is drawn.
        document: in which things are hidden, as in `lengthwise.answer`. None: Python's language
            reference.
        out: a file that gets a line a sample. A run that was stopped goes on from it.
        force: begin the file anew.
        progress: told of what is asked.

    Returns:
        All rows, those that stood in the file included.

    Raises:
        RecipeError: for recipes and benchmarks that cannot be parsed.
        Refused: where a recipe cannot run on this model.
        NoRoom: where no task has a sample of any of the lengths.
        LengthwiseError: for unknown tasks, wrong lengths, depths and files, and published data that
            is not there, or is other data than the file's.
    """
    named = [tasks] if isinstance(tasks, str) else list(tasks)
    notes: list[str] = []
    wanted_tasks = _once([task for each in named for task in _askable(model, each, notes)])
    asked = [replies_of(model, each) for each in _recipes(recipes)]
    lengths, places = _lengths(model, lengths), _places(depths)
    require_count("samples", samples)
    hay = document_from(document).text
    reader = model if isinstance(model, RemoteModel) else LocalText(model)
    found = Evaluation(
        model=model.name, trained_length=getattr(model, "trained_length", None),
        origin=Origin.here(), notes=notes,
    )  # fmt: skip
    # How many are drawn decides which are, of published data.
    job = {
        "model": identity(reader), "seed": seed, "samples": samples,
        "document": hashlib.sha256(hay.encode("utf-8", "surrogatepass")).hexdigest()[:16],
    }  # fmt: skip
    begin = time.perf_counter()
    told = progress or Progress()
    with ExitStack() as stack:
        file = None if out is None else stack.enter_context(RunFile(Path(out), job, force))
        for length in lengths:
            wanted = Wanted(length, samples, seed, reader.count, hay, notes=found.notes)
            for task, placed in _placed(wanted_tasks, places, wanted):
                for row, seconds in _of_task(task, placed, asked, found, file, told):
                    found.rows.append(row)
                    found.asked_s += seconds
                if file is not None:
                    file.tell(found.notes)
    if not found.rows:
        raise NoRoom("; ".join(found.notes))
    found.seconds = time.perf_counter() - begin
    return found


def _placed(
    tasks: Seq[Task], places: Seq[float | None], wanted: Wanted
) -> Iterator[tuple[Task, Wanted]]:
    """Tasks at each depth; those whose samples are the same at any, once and at none."""
    fixed = [] if places == [None] else [task for task in tasks if _same_at_any(task, wanted)]
    for depth in places:
        for task in tasks:
            if task not in fixed:
                yield task, replace(wanted, depth=depth)
            elif depth == places[0]:
                note = f"{task.text} is the same at any depth, so each sample is asked once"
                if note not in wanted.notes:
                    wanted.notes.append(note)
                yield task, wanted


def _same_at_any(task: Task, wanted: Wanted) -> bool:
    """Whether a task's first sample is the same at the beginning and at the end."""
    ends = [replace(wanted, depth=depth, notes=[]) for depth in (0.0, 1.0)]
    try:
        first, last = (next(iter(task.benchmark.samples(task.name, at)), None) for at in ends)
    except NoRoom:
        return False
    return first == last


def _of_task(
    task: Task, wanted: Wanted, asked: Seq[Replies], found: Evaluation, file: RunFile | None,
    progress: Progress,
) -> Iterator[tuple[SampleRow, float]]:  # fmt: skip
    """Rows of a task at one length and depth, each with the seconds that were spent for it."""
    done = file.answered if file is not None else {}
    numbers = range(wanted.samples)
    keys = {
        each.recipe: [(task.text, wanted.length, wanted.depth, n, each.recipe) for n in numbers]
        for each in asked
    }
    missing = any(key not in done for of_recipe in keys.values() for key in of_recipe)
    # A user's files may have changed since.
    drawn = missing or bool(getattr(task.benchmark, "data", ""))
    try:
        samples = task.samples(wanted) if drawn else []
    except NoRoom as error:
        what = f"{task.text} at {wanted.length:,} tokens is left out"
        # Once, whatever depths are asked for.
        if not any(note.startswith(what) for note in found.notes):
            found.notes.append(f"{what}: {error}")
        return
    if file is not None:
        _require_same(file, keys.values(), samples)
    for each in asked:
        mine = keys[each.recipe][: len(samples) or None]
        todo = [n for n, key in enumerate(mine) if key not in done]
        yield from ((done[key], 0.0) for key in mine if key in done)
        place = f"{task.text}, {wanted.length:,} tokens, {each.recipe}"
        progress.stage(place, len(todo), "samples")
        wants = [samples[n] for n in todo]
        replies = each.laws(wants) if task.asks_laws else each.of(wants)
        for n, reply in zip(todo, replies, strict=True):
            row = _row(task, samples[n], reply, mine[n], found.trained_length)
            if file is not None:
                file.add(row)
            progress.advance(1)
            yield row, reply.seconds


def _row(
    task: Task, sample: Sample, reply: Reply, key: _Key, trained: int | None
) -> SampleRow:  # fmt: skip
    name, length, depth, number, recipe = key
    scores: dict[str, float] = {}
    if reply.refused is None:
        scores = (
            task.score_laws(reply.laws, sample) if task.asks_laws
            else task.score(reply.said, sample)
        )  # fmt: skip
    return SampleRow(
        task=name, recipe=recipe, length=length, number=number, depth=depth, place=sample.depth,
        question=sample.question, begin=sample.begin, references=sample.references,
        problem=_problem(sample), facts=_small(sample.facts), context=len(sample.context),
        said=reply.said, score=next(iter(scores.values()), None),
        scores=scores, prompt_tokens=reply.prompt_tokens, answer_tokens=reply.answer_tokens,
        tokens_read=reply.prompt_tokens + reply.read, ttft_s=reply.ttft_s,
        tokens_per_s=reply.tokens_per_s, kv_bytes=reply.kv_bytes,
        cut_tokens=int(sample.facts.get("cut_tokens", 0)),
        over=trained is not None and reply.prompt_tokens > trained, refused=reply.refused,
    )  # fmt: skip


def _problem(sample: Sample) -> str:
    """Which question a sample asks, in a few signs."""
    own = sample.context if sample.own is None else sample.own
    told = json.dumps([sample.question, sample.begin, sample.references, own])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _small(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that tell of a sample, such as a published length, and hold none of it."""
    return {
        name: value for name, value in facts.items()
        if name != "cut_tokens" and isinstance(value, (bool, int, float, str))
        and len(str(value)) <= _SHORT
    }  # fmt: skip


def _require_same(file: RunFile, keys: Iterable[Seq[_Key]], samples: Seq[Sample]) -> None:
    """Raises LengthwiseError where a row of the file is of another sample than is made now."""
    for sample, *mine in zip(samples, *keys, strict=False):
        asked = (sample.question, sample.begin, tuple(sample.references), len(sample.context))
        known = ("", _problem(sample))
        for row in [file.answered[key] for key in mine if key in file.answered]:
            same = asked == (row.question, row.begin, row.references, row.context)
            if not same or row.problem not in known:
                raise LengthwiseError(
                    f"{file.path}: sample {row.number + 1} of {row.task} at {row.length:,} tokens "
                    "was another, as where its data has changed; name another file, or add --force "
                    "to begin it anew"
                )


def _askable(model: Model | RemoteModel, given: str, notes: list[str]) -> list[Task]:
    """The tasks that a text names, without those for which the model would have to tell laws."""
    found = tasks_of(given)
    laws = [task for task in found if task.asks_laws]
    if not laws or not isinstance(model, RemoteModel):
        return found
    why, remedy = no_laws(model)
    if len(laws) == len(found):
        raise Refused(f"{laws[0].text} cannot be asked: {why}", remedy)
    notes += [f"{task.text} is left out: {why}" for task in laws]
    return [task for task in found if not task.asks_laws]


def _once(tasks: Seq[Task]) -> list[Task]:
    """Tasks in their order, each once."""
    if not tasks:
        raise LengthwiseError("no task is given; `lengthwise eval tasks` lists them")
    return list({task.text: task for task in tasks}.values())


def _recipes(given: RecipeLike | Seq[RecipeLike]) -> list[str]:
    return list(dict.fromkeys(str(each) for each in recipes_of(given)))


def _lengths(model: Model | RemoteModel, lengths: Seq[int]) -> list[int]:
    """Lengths, each once, short ones first."""
    for length in lengths:
        require_count("length", length)
    return sorted(set(lengths)) or [min(LENGTH, getattr(model, "trained_length", LENGTH))]


def _places(depths: Seq[float]) -> list[float | None]:
    """Depths, each once, in their order; None alone where there are none."""
    wrong = [depth for depth in depths if not 0 <= depth <= 1]
    if wrong:
        raise LengthwiseError(f"depth {wrong[0]}: give shares from 0 (the beginning) to 1")
    return [*dict.fromkeys(depths)] or [None]


__all__ = ["LENGTH", "SAMPLES", "Evaluation", "evaluate"]
