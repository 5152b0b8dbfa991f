"""Processor time of proposals behind a long context, one thread: what a search costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from benchmarks.reproduction.harness import Row

from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree

CONTEXT = 262_144
STEPS = 1000
COLUMNS = {"build": "", "median": "", "p99": ""}


def timed(
    drafter: Drafter, text: list[int], generator: np.random.Generator,
    source: Callable[[int], Sequence[int]],
) -> Row:  # fmt: skip
    """Microseconds of proposals while a text grows: nine tokens in ten continue an older place of
    the source of a step. `build` is the first proposal, which indexes the context."""
    build = proposal(drafter, text)
    measured = []
    for step in range(STEPS):
        text.append(source(step)[1000 + step] if generator.random() < 0.9 else 77)
        measured.append(proposal(drafter, text))
    return {
        "build": round(build * 1e6),
        "median": round(statistics.median(measured) * 1e6),
        "p99": round(statistics.quantiles(measured, n=100)[-1] * 1e6),
    }


def proposal(drafter: Drafter, text: list[int]) -> float:
    """Seconds of processor time of one proposal."""
    tree = Tree(text[-1])
    begin = time.thread_time()
    drafter.propose(text, tree, 32)
    return time.thread_time() - begin
