"""A batch job from file to file: what is done is kept, what is wrong is said on its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lengthwise import recipes
from lengthwise.api.generation import Generation
from lengthwise.api.held_model import HeldModel
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.recipes import RecipeLike
from lengthwise.serving.batch_body import Names, answer, asks_of, names_of, refusal
from lengthwise.serving.batch_files import Line, Manifest, Results, read_lines
from lengthwise.serving.batch_job import BatchJob, JobMetrics
from lengthwise.serving.batch_plan import OutputLengths
from lengthwise.serving.job import Ask
from lengthwise.serving.room import free_for_entries

# Of the memory that is free.
_SHARE = 0.5


@dataclass
class Summary:
    """What became of a job. lines: of IN. before: those done before this run. answered, refused: of
    this run. cost: of this run."""

    lines: int
    before: int
    answered: int = 0
    refused: int = 0
    cost: JobMetrics = field(default_factory=JobMetrics)


@dataclass(frozen=True)
class Todo:
    """A request that is to be run. asks: its texts. identity: makes the id of its answer."""

    line: Line
    asks: list[Ask]
    identity: str


Told = Callable[[Todo, int, Mapping[str, Any]], None]


class Runner(Protocol):
    """What runs the requests of a job: this process, or replicas."""

    def __call__(self, todo: Seq[Todo], told: Told, lengths: OutputLengths) -> JobMetrics:
        """Runs all of them.

        Args:
            todo: what is asked.
            told: called with each request that is done, its status and its body.
            lengths: what is known of how much is written.
        """


MakesRunner = Callable[[HeldModel, Names, "int | None"], Runner]


@dataclass(frozen=True)
class Local:
    """Runs requests in this process. kv_bytes: keys and values that may be held at once."""

    model: HeldModel
    name: str
    kv_bytes: int

    def __call__(self, todo: Seq[Todo], told: Told, lengths: OutputLengths) -> JobMetrics:
        def done(number: int, found: list[Generation] | Exception) -> None:
            each = todo[number]
            if isinstance(found, Exception):
                told(each, *refusal(found))
            else:
                body = answer(each.line, each.asks, found, self.name, each.identity)
                told(each, 200, body)

        job = BatchJob(self.model, self.kv_bytes, done, lengths)
        return job.run([each.asks for each in todo])


def usual_kv_bytes(model: HeldModel) -> int:
    """Bytes of keys and values that may be held where nothing is said: half of what is free.

    Args:
        model: on the device in question.
    """
    return int(_SHARE * free_for_entries(model.adapted.device))


def run_batch(
    model: HeldModel, source: Path, out: Path, recipe: RecipeLike = "full",
    kv_bytes: int | None = None, force: bool = False, called: Seq[str] = (),
    runner: MakesRunner | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:  # fmt: skip
    """Runs the requests of a file, those that have a result in OUT already left out.

    Args:
        model: that writes.
        source: IN, in OpenAI's batch format.
        out: OUT; a line is appended for each request that is done.
        recipe: of requests that name none.
        kv_bytes: keys and values that may be held at once; None is half of the memory that is free.
        force: an OUT that is another job's, or no output, may be overwritten.
        called: names of the model in requests, beside its own; the first is shown in answers.
        runner: makes what runs the requests, of the model, its names and kv_bytes; None runs them
            here.
        progress: called with the number of lines that are done, and of all.

    Returns:
        What became of it.

    Raises:
        BatchError: for an IN that cannot be read, and an OUT that is not this job's.
        RecipeError: for a recipe that cannot run on this model.
    """
    chosen = recipes.recipe_of(recipe)
    model.plan(chosen)
    lines, digest = read_lines(source)
    names = names_of(model, chosen, called)
    run = (runner or _local)(model, names, kv_bytes)
    mark = fingerprint_now(model.adapted)
    manifest = Manifest(digest, mark, model.adapted.dtype_text, str(chosen))
    with Results(out, manifest, force) as results:
        found = Summary(len(lines), sum(line.key in results.done for line in lines))
        count = progress or (lambda done, of: None)
        todo, lengths = _todo(lines, results, names, model, found)

        def told(each: Todo, status: int, body: Mapping[str, Any]) -> None:
            results.add_body(each.line, status, body)
            found.answered += status == 200
            found.refused += status != 200
            count(len(results.done), len(lines))

        count(len(results.done), len(lines))
        if todo:
            found.cost = run(todo, told, lengths)
    return found


def _local(model: HeldModel, names: Names, kv_bytes: int | None) -> Runner:
    held = usual_kv_bytes(model) if kv_bytes is None else kv_bytes
    return Local(model, names.known[0], held)


def _todo(
    lines: Seq[Line], results: Results, names: Names, model: HeldModel, found: Summary
) -> tuple[list[Todo], OutputLengths]:
    """What is to be run, and how much those have written that are done; what cannot be run is said
    on its line."""
    todo: list[Todo] = []
    lengths = OutputLengths()
    for line in lines:
        if line.error is not None:
            if line.key not in results.done:
                results.add_error(line, *line.error)
                found.refused += 1
            continue
        given = results.given.get(str(line.custom_id))
        if line.key in results.done and given is None:
            continue
        try:
            asks = asks_of(line, names, model)
        except Exception as error:
            # Whatever is wrong with a line, the others are run.
            results.add_body(line, *refusal(error))
            found.refused += 1
            continue
        if given is None:
            todo.append(Todo(line, asks, results.request_id(line)))
        else:
            lengths.add(asks[0].max_new_tokens, given // len(asks))
    return todo, lengths


__all__ = [
    "Local", "MakesRunner", "Runner", "Summary", "Todo", "Told", "run_batch", "usual_kv_bytes",
]  # fmt: skip
