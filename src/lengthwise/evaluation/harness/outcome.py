"""What one recipe got on one task: a score a metric, and what every sample got."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import asdict, dataclass, field
from statistics import stdev
from typing import Any

# Draws of a bootstrap where the harness gives no standard error.
DRAWS = 200
# Characters of the end of a prompt that are kept.
_ASKED = 400


@dataclass(frozen=True)
class HarnessSample:
    """A document of a task under a recipe, as a line of a file has it.

    doc: its number in the data set. filter: through which the reply went. asked: the end of its
    prompt. said: the replies, filtered: texts, or [log-probability, greedy] of each choice.
    metrics: values by name; a number, or [sum, weight]. cut: tokens of the prompt that were cut off
    at the left, because the model reads no more.
    """

    recipe: str
    task: str
    doc: int
    filter: str
    asked: str
    target: Any
    said: Any
    metrics: Mapping[str, Any]
    cut: int = 0

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What tells it from other samples."""
        return self.recipe, self.task, self.doc, self.filter


@dataclass(frozen=True)
class Score:
    """A metric of a task. error: its standard error; None where there is none. n: samples. higher:
    whether more of it is better; None where the task does not say."""

    value: float
    error: float | None
    n: int
    higher: bool | None = None


@dataclass
class Outcome:
    """A recipe on what was asked for by one name. scores: by task or group, and `metric,filter`."""

    recipe: str
    name: str
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    samples: list[HarnessSample] = field(default_factory=list)

    def closing(self) -> dict[str, Any]:
        """All but the samples, as JSON has it."""
        scores = {
            task: {metric: asdict(score) for metric, score in found.items()}
            for task, found in self.scores.items()
        }
        tasks = sorted({sample.task for sample in self.samples})
        return {"done": self.name, "recipe": self.recipe, "tasks": tasks, "scores": scores}


def outcome_of(recipe: str, name: str, found: Mapping[str, Any], cuts: Any, tasks: Any) -> Outcome:
    """What the harness found.

    Args:
        recipe: under which.
        name: what was asked for.
        found: its results.
        cuts: see `cuts.Cuts`.
        tasks: its Task objects by name.
    """
    made = Outcome(recipe, name)
    for task, rows in found["samples"].items():
        lost = cuts.of_task(task)
        made.samples += [_sample(recipe, task, row, lost) for row in rows]
    for task, values in {**found["results"], **found.get("groups", {})}.items():
        higher = found.get("higher_is_better", {}).get(task, {})
        rows = found["samples"].get(task, [])
        scores = {
            metric: _score(metric, values, higher, rows, tasks.get(task))
            for metric, value in values.items()
            if "," in metric and "_stderr," not in metric and _number(value) is not None
        }
        if scores:
            made.scores[task] = scores
    return made


def _sample(
    recipe: str, task: str, row: Mapping[str, Any], lost: Mapping[int, int]
) -> HarnessSample:
    arguments = row["arguments"]
    first = arguments[0] if isinstance(arguments, (list, tuple)) else next(iter(arguments.values()))
    asked = str(first[0] if isinstance(first, (list, tuple)) else next(iter(first.values())))
    return HarnessSample(
        recipe, task, int(row["doc_id"]), str(row["filter"]), asked[-_ASKED:],
        _plain(row["target"]), _plain(row["filtered_resps"]),
        {name: _plain(row[name]) for name in row["metrics"] if name in row},
        lost.get(int(row["doc_id"]), 0),
    )  # fmt: skip


def _score(
    metric: str, values: Mapping[str, Any], higher: Mapping[str, Any], rows: Seq[Any], task: Any
) -> Score:
    name, _, filter_ = metric.partition(",")
    error = _number(values.get(f"{name}_stderr,{filter_}"))
    if error is None and task is not None:
        items = [row[name] for row in rows if row["filter"] == filter_ and name in row]
        error = _bootstrapped(task.aggregation().get(name), items)
    n = int(values.get("sample_len") or sum(row["filter"] == filter_ for row in rows))
    return Score(float(values[metric]), error, n, higher.get(name))


def _bootstrapped(aggregate: Callable[[Any], Any] | None, items: Seq[Any]) -> float | None:
    """The standard error of what is aggregated of pairs (sum, weight); None of anything else."""
    pairs = all(isinstance(each, (tuple, list)) and len(each) == 2 for each in items)
    if aggregate is None or len(items) < 2 or not pairs:
        return None
    drawn = random.Random(0)
    return stdev(float(aggregate(drawn.choices(items, k=len(items)))) for _ in range(DRAWS))


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


__all__ = ["HarnessSample", "Outcome", "Score", "outcome_of"]
