"""The FlexSP planner simulated on the paper's cost table.

`wikipedia_*` draws batches from the lengths that the authors publish for Wikipedia, as the
quantiles below (of their 1,000,000 lengths, branch `flexsp` of PKU-DAIR/Hetu-Galvatron); they round
up to multiples of 128 and drop what is beyond the limit. One size: one group size for every step,
the best of those that hold the longest sequence the limit allows, or the largest; beside the best
one size for each batch, and our plan. Nothing is run on any device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from benchmarks.reproduction.harness import Found, Note, check

from lengthwise.training.flexsp import best_static, plan, static_plan
from lengthwise.training.flexsp_costs import gpt_on_a100

BATCHES = 10
BATCH = 512
STEP = 128
# Tokens of a Wikipedia article: (share of articles that are shorter, tokens).
WIKIPEDIA = (
    (0, 1), (0.001, 17), (0.01, 39), (0.05, 67), (0.1, 87), (0.2, 122), (0.3, 171), (0.4, 243),
    (0.5, 347), (0.6, 472), (0.7, 685), (0.8, 1092), (0.85, 1464), (0.9, 2112), (0.93, 2862),
    (0.95, 3720), (0.97, 5390), (0.98, 7087), (0.985, 8536), (0.99, 10919), (0.993, 13294),
    (0.995, 15986), (0.997, 21178), (0.998, 26511), (0.999, 37353), (0.9995, 51510),
    (0.9997, 64182), (0.9999, 101537), (0.99995, 129653), (0.99998, 193461), (0.99999, 230941),
    (0.999995, 267911), (1, 1823777),
)  # fmt: skip
Sample = Callable[[np.random.Generator, int], np.ndarray]


def wikipedia(rng: np.random.Generator, count: int) -> np.ndarray:
    """Lengths by the quantiles, interpolated in the logarithm of the length."""
    shares, tokens = np.array(WIKIPEDIA).T
    return np.exp(np.interp(rng.random(count), shares, np.log(tokens)))


def log_normal(rng: np.random.Generator, count: int) -> np.ndarray:
    """Median 1,000 tokens and a long tail: 2.3% beyond 20,000."""
    return rng.lognormal(math.log(1000), 1.5, count)


def equal(rng: np.random.Generator, count: int) -> np.ndarray:
    """No variation at all: nothing for the planner to gain."""
    return np.full(count, 4000.0)


@dataclass(frozen=True)
class Case:
    """Batches of lengths and a cluster. paper: how many times as fast its figure of end-to-end
    times has the method, over one size and over the best size a batch."""

    title: str
    sample: Sample
    limit: int
    gpt: str = "7b"
    devices: int = 64
    batch: int = BATCH
    paper: tuple[float | None, float | None] = (None, None)


CASES = {
    "wikipedia_192k": Case("7B, Wikipedia to 192k", wikipedia, 192_000, paper=(1.72, 1.28)),
    "wikipedia_384k": Case("7B, Wikipedia to 384k", wikipedia, 384_000, paper=(1.46, 1.11)),
    "wikipedia_192k_13b":
        Case("13B, Wikipedia to 192k", wikipedia, 192_000, "13b", paper=(1.59, 1.21)),
    "wikipedia_192k_30b":
        Case("30B, Wikipedia to 192k", wikipedia, 192_000, "30b", paper=(1.64, 1.33)),
    "log_normal_64k_16":
        Case("7B, log-normal to 64k, 16 devices", log_normal, 64_000, devices=16, batch=128),
    "equal_64k_16":
        Case("7B, equal lengths of 4,000, 16 devices", equal, 64_000, devices=16, batch=128),
}  # fmt: skip


def batches(case: Case) -> list[list[int]]:
    """The batches of a case, the same each time."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(BATCHES):
        lengths = np.ceil(case.sample(rng, 2 * case.batch) / STEP).astype(int) * STEP
        found.append([int(n) for n in lengths[lengths <= case.limit - STEP][: case.batch]])
    return found


FIXED, ADAPTIVE = "one size, best that holds the limit", "best one size a batch"
PAPER = ("the paper: over DeepSpeed", "the paper: over best a batch")


@check({"case": "", FIXED: ",.0f", ADAPTIVE: ",.0f", "planned": ",.0f", "over one size": ".2f",
        "over best a batch": ".2f", **dict.fromkeys(PAPER, ".2f")})  # fmt: skip
def flexsp(cases: tuple[str, ...] = tuple(CASES)) -> Iterator[Found]:
    """Milliseconds a step of the three ways (the size of a group), means over the batches."""
    for name in cases:
        yield from simulated(CASES[name])


def simulated(case: Case) -> Iterator[Found]:
    """The row of a case, and what the solver took."""
    costs = gpt_on_a100(case.gpt, case.devices, context=case.limit)
    sizes = costs.usual_sizes(case.devices)
    # Where even all devices hold a little less than the limit, that many, as the authors run it.
    holding = [p for p in sizes if costs.capacity * p >= case.limit - STEP] or sizes[-1:]
    found: dict[str, list[float]] = {"adaptive": [], "plan": [], "gap": [], "seconds": []}
    fixed: dict[int, list[float]] = {size: [] for size in holding}
    tokens = []
    for lengths in batches(case):
        tokens.append(sum(lengths))
        found["adaptive"].append(best_static(lengths, case.devices, costs, sizes=sizes).time_ms)
        start = time.monotonic()
        ours = plan(lengths, case.devices, costs, sizes=sizes)
        found["seconds"].append(time.monotonic() - start)
        found["plan"].append(ours.time_ms)
        found["gap"].append(ours.gap)
        for size in holding:
            static = static_plan(lengths, case.devices, costs, size)
            assert static is not None
            fixed[size].append(static.time_ms)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    static_ms, size = min((float(np.mean(times)), size) for size, times in fixed.items())
    planned = means["plan"]
    yield {
        "case": case.title, FIXED: {"ms": static_ms, "size": size}, ADAPTIVE: means["adaptive"],
        "planned": planned, "over one size": static_ms / planned,
        "over best a batch": means["adaptive"] / planned,
        **dict(zip(PAPER, case.paper, strict=True)),
    }  # fmt: skip
    yield Note({case.title: {
        "tokens": float(np.mean(tokens)), "gap_mean": means["gap"], "gap_max": max(found["gap"]),
        "solver_s": means["seconds"],
    }})  # fmt: skip
