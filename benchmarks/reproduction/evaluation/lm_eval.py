"""lm-evaluation-harness: our model beside its own `hf` model, and recipes beside full."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.reproduction.evaluation.pydoc_tasks import KINDS, write_tasks
from benchmarks.reproduction.harness import Found, check, load
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lengthwise.evaluation.harness.model import LengthwiseLM
from lengthwise.evaluation.harness.run import Asking, run_harness
from lengthwise.evaluation.harness.scores import Cell, score_rows
from lengthwise.evaluation.harness.tasks import load_tasks
from lengthwise.evaluation.reports.harness_table import number
from lengthwise.models.embedded import load_embedded

RECIPES = ("snapkv(budget=64, window=16)", "streaming(window=64)", "kivi(bits=2, residual=32)")
SCORES = {
    "task": "", "kind": "", "metric": "", "samples": ",", "hf": ".6f", "lengthwise": ".6f",
    "greatest difference, nats": ".1e", "replies that differ": ",",
}  # fmt: skip
COLUMNS = {"task": "", "metric": "", "n": ",", "full": "", **dict.fromkeys(RECIPES, "")}


@check(SCORES)
def lm_eval(samples: int = 8, length: int = 512) -> Iterator[Found]:
    """Five tasks on the embedded model in float32, by the harness's hf model and by ours."""
    stock, tokenizer = load_embedded(torch.float32)
    theirs = HFLM(stock, tokenizer=tokenizer, max_length=length, batch_size=1)
    ours = LengthwiseLM(load("float32"), max_length=length, batch_size=8)
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(Path(folder), samples)
        manager = TaskManager(include_path=folder, include_defaults=False)
        for name, kind in KINDS.items():
            one, other = (
                simple_evaluate(
                    each, tasks=[name], task_manager=manager, bootstrap_iters=0,
                    apply_chat_template=name == "pydoc_chat",
                )
                for each in (theirs, ours)
            )  # fmt: skip
            yield from _rows(name, kind, one, other)


def _rows(name: str, kind: str, one: Any, other: Any) -> Iterator[Found]:
    pairs = [
        (given, found)
        for a, b in zip(one["samples"][name], other["samples"][name], strict=True)
        for given, found in zip(_replies(a), _replies(b), strict=True)
    ]
    # Of a reply that is a number the greedy flag is compared, of a text all of it.
    totals = [abs(a[0] - b[0]) for a, b in pairs if isinstance(a, tuple)]
    differ = sum(a[-1] != b[-1] if isinstance(a, tuple) else a != b for a, b in pairs)
    for metric, value in one["results"][name].items():
        if "," in metric and "_stderr" not in metric:
            yield {
                "task": f"`{name}`", "kind": kind, "metric": metric.partition(",")[0],
                "samples": len(one["samples"][name]), "hf": float(value),
                "lengthwise": float(other["results"][name][metric]),
                "greatest difference, nats": max(totals, default=None),
                "replies that differ": differ,
            }  # fmt: skip


def _replies(sample: Any) -> list[Any]:
    """(log-probability, greedy) of what was scored, or texts."""
    found = [reply for (reply,) in sample["resps"]]
    return [(each, None) if isinstance(each, float) else each for each in found]


@check(COLUMNS)
def recipes(samples: int = 10, length: int = 1024) -> Iterator[Found]:
    """Recipes beside full on four of the tasks, as `lengthwise eval` shows them."""
    names = [name for name in KINDS if name != "pydoc_chat"]
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(Path(folder), samples)
        tasks = load_tasks(names, folder)
        found = run_harness(load(), tasks, RECIPES, Asking(max_length=length))
    for row in score_rows(found):
        cells = {recipe: _said(cell) for recipe, cell in row.cells.items()}
        yield {"task": f"`{row.task}`", "metric": row.metric, "n": row.n, **cells}


def _said(cell: Cell) -> str:
    low, high = cell.interval or (cell.value, cell.value)
    said = f"{number(cell.value)} [{number(low)}..{number(high)}]"
    if cell.over_full is None or cell.tested is None:
        return said
    return f"{said}, {number(cell.over_full, sign=True)} (p={cell.tested.p:.3f})"
