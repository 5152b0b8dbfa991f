"""Ten recipes on twelve generated tasks by length, on the embedded model or one that is named.

Rows come length by length, the short ones first. FILE keeps every sample, so that a run of hours
may be stopped and goes on; those of the repository hold what its pages say, and longer lengths are
added to them. A cell is a mean score, `-` or `+` where it is surely below or above `full` (paired
test by signs, p < 5%, not corrected for many comparisons).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.coder import NAME, coder
from benchmarks.reproduction.harness import Found, Note, Row, check

import lengthwise
from lengthwise.api.model import Model
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.metrics.scores import Cost, Score, costs_of, scores_of
from lengthwise.evaluation.reports.score_table import cell

TASKS = (
    "passkey", "needle", "copy", "kv", "threads/single", "ruler/niah_multikey_1",
    "ruler/niah_multivalue", "ruler/vt", "ruler/cwe", "ruler/fwe", "infinite/math_find",
    "icll/writing",
)  # fmt: skip
RECIPES = (
    "full", "streaming(window=1020)", "snapkv(budget=25%)", "pyramidkv(budget=25%)",
    "tova(budget=25%)", "kivi(bits=4)", "kivi(bits=2)", "quest(budget=25%)", "bm25(budget=1024)",
    "bm25(budget=1024, passage=32)",
)  # fmt: skip
# For what recipes read alike: all but `streaming` and `bm25` read a prompt as full attention does.
CACHE = "4GiB"
RUNS = "benchmarks/results"
# Of a model that is asked for more than it was trained to read.
LONGER = "yarn(factor=4)"
COLUMNS = {
    "tokens": ",", "recipe": "", **dict.fromkeys(TASKS, ""), "all": "", "samples": ",",
    "KV, MB": ",.1f", "tokens read": ",.0f",
}  # fmt: skip


@check(COLUMNS)
def by_length(
    lengths: tuple[int, ...] = (4096, 8192, 16384, 32768), samples: int = 2,
    file: str = f"{RUNS}/by_length.jsonl", recipes: tuple[str, ...] = RECIPES,
    tasks: tuple[str, ...] = TASKS,
) -> Iterator[Found]:  # fmt: skip
    """The embedded model."""
    yield from _run(lengthwise.load(cache_bytes=CACHE), lengths, samples, file, recipes, tasks)


@check(COLUMNS)
def larger(
    lengths: tuple[int, ...] = (4096, 8192, 16384, 32768), samples: int = 1,
    file: str = f"{RUNS}/larger.jsonl", recipes: tuple[str, ...] = RECIPES,
    tasks: tuple[str, ...] = TASKS,
) -> Iterator[Found]:  # fmt: skip
    """Qwen2.5-Coder-1.5B-Instruct, fetched where it is not there."""
    yield Note({"model": NAME})
    model = lengthwise.load(coder(), cache_bytes=CACHE)
    yield from _run(model, lengths, samples, file, recipes, tasks)


def _run(
    model: Model, lengths: tuple[int, ...], samples: int, file: str, recipes: tuple[str, ...],
    tasks: tuple[str, ...],
) -> Iterator[Found]:  # fmt: skip
    seconds = asked = 0.0
    for length in lengths:
        more = f" + {LONGER}" if length > model.trained_length else ""
        named = [LONGER if each == "full" and more else f"{each}{more}" for each in recipes]
        some = ["full", *named] if more else named
        found = lengthwise.evaluate(
            model, tasks, some, lengths=[length], samples=samples, out=Path(file)
        )
        seconds, asked = seconds + found.seconds, asked + found.asked_s
        yield from _rows(found.rows)
        yield Note({f"left out at {length:,}": found.notes} if found.notes else {})
    if asked:
        yield Note({"seconds without a model, %": round(100 * (1 - asked / seconds), 2)})


def _rows(rows: list[SampleRow]) -> Iterator[Row]:
    tasks = {task: _by_recipe([row for row in rows if row.task == task]) for task in TASKS}
    costs: dict[str, Cost] = {each.recipe: each for each in costs_of(rows)}
    for score in scores_of(rows):
        cost = costs[score.recipe]
        yield {
            "tokens": rows[0].length, "recipe": f"`{score.recipe}`",
            **{task: _short(found.get(score.recipe)) for task, found in tasks.items() if found},
            "all": cell(score), "samples": score.mean.n if score.mean else 0,
            "KV, MB": None if cost.kv_bytes is None else cost.kv_bytes / 1e6,
            "tokens read": cost.tokens_read,
        }  # fmt: skip


def _by_recipe(rows: list[SampleRow]) -> dict[str, Score]:
    return {score.recipe: score for score in scores_of(rows)}


def _short(score: Score | None) -> str:
    """A score without its interval."""
    found = cell(score)
    head, bracket, tail = found.partition(" [")
    return head + (tail.partition("]")[2] if bracket else "")
