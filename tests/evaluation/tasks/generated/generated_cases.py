"""A text, a count of tokens and every task, for the tests of what is generated."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path
from typing import Any

from lengthwise.evaluation.tasks.benchmark import BENCHMARKS, Sample, Task, Wanted, tasks_of
from lengthwise.evaluation.tasks.words import COMMON_WORDS

DATA = Path(__file__).parent / "data"
_TOKEN = re.compile(r"\w+|[^\w\s]")


def tokens(text: str) -> int:
    """Words and marks."""
    return len(_TOKEN.findall(text))


@cache
def haystack() -> str:
    """Sentences of drawn words, none like another."""
    draw = random.Random(7)
    said = [draw.sample(COMMON_WORDS, draw.randint(5, 12)) for _ in range(600)]
    return " ".join(f"{' '.join(words).capitalize()}." for words in said)


def wanted(length: int, samples: int = 3, **given: Any) -> Wanted:
    return Wanted(length, samples, given.pop("seed", 0), tokens, haystack(), **given)


def every_task() -> list[Task]:
    """Every task of every registered benchmark that lacks nothing, those of published data too."""
    given = {"ruler": f'ruler(data="{DATA}")'}
    found = []
    for name in BENCHMARKS:
        cls = BENCHMARKS.get(name)
        if cls is not None and ".generated." in cls.__module__:
            found += tasks_of(given.get(name, name))
    # What is asked of laws has no replies; see test_icll.
    return [task for task in found if not task.asks_laws]


def one(text: str, length: int, **given: Any) -> tuple[Task, Sample]:
    """The first sample of the task that a text names."""
    (task,) = tasks_of(text)
    return task, task.samples(wanted(length, 1, **given))[0]
