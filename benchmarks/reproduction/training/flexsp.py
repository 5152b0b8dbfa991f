"""The FlexSP planner simulated on the paper's cost table: one JSON line a case.

    python -m benchmarks.checks.flexsp [CASE...]

CASE is one of CASES (default: all). `wikipedia_*` draws batches from the lengths that the authors
publish for Wikipedia, as the quantiles below (of their 1,000,000 lengths, branch `flexsp` of
PKU-DAIR/Hetu-Galvatron); they round up to multiples of 128 and drop what is beyond the limit.
`static` has one group size for every step, the best of those that hold the longest sequence the
limit allows, or the largest; `adaptive` the best one size for each batch; `plan` is ours.
Milliseconds a step, means over the batches; nothing is run on any device.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
    sample: Sample
    limit: int
    gpt: str = "7b"
    devices: int = 64
    batch: int = BATCH


CASES = {
    "wikipedia_192k": Case(wikipedia, 192_000),
    "wikipedia_384k": Case(wikipedia, 384_000),
    "wikipedia_192k_13b": Case(wikipedia, 192_000, "13b"),
    "wikipedia_192k_30b": Case(wikipedia, 192_000, "30b"),
    "log_normal_64k_16": Case(log_normal, 64_000, devices=16, batch=128),
    "equal_64k_16": Case(equal, 64_000, devices=16, batch=128),
}


def batches(case: Case) -> list[list[int]]:
    """The batches of a case, the same each time."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(BATCHES):
        lengths = np.ceil(case.sample(rng, 2 * case.batch) / STEP).astype(int) * STEP
        found.append([int(n) for n in lengths[lengths <= case.limit - STEP][: case.batch]])
    return found


def check(case: Case) -> dict[str, object]:
    """Mean times of the three ways, and what the solver took."""
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
    return {
        "tokens": float(np.mean(tokens)), "static_size": size, "static_ms": static_ms,
        "adaptive_ms": means["adaptive"], "plan_ms": means["plan"],
        "over_static": static_ms / means["plan"],
        "over_adaptive": means["adaptive"] / means["plan"],
        "gap_mean": means["gap"], "gap_max": max(found["gap"]), "solver_s": means["seconds"],
    }  # fmt: skip


def main(names: list[str]) -> None:
    for name in names or list(CASES):
        print(json.dumps({"case": name, **check(CASES[name])}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
