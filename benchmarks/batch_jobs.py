"""Batch jobs on the embedded model: prefixes known beforehand against a cache that learns them."""

from __future__ import annotations

import random
import time
from statistics import median

import lengthwise
from benchmarks.figures import Table, text_ids
from lengthwise import recipes
from lengthwise.api.generation import Generation
from lengthwise.api.model import Model
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.engine.sampling import Sampling
from lengthwise.serving.batch_job import BatchJob, JobMetrics
from lengthwise.serving.job import Ask

PREFIXES, REQUESTS, PREFIX, OWN = 50, 200, 512, 32
# Tokens whose entries may be held at once: what a dozen of the prefixes take.
BUDGET = 6144
# Of the budget, for the cache of those that come first and are served first.
CACHE = 0.5


def requests(model: Model, seed: int = 0) -> list[list[Ask]]:
    """Requests in random order, each behind one of the prefixes."""
    rng = random.Random(seed)
    ids = text_ids(model, PREFIXES * PREFIX + REQUESTS * OWN)
    full, found = recipes.recipe_of("full"), []
    for number in range(REQUESTS):
        first = PREFIX * rng.randrange(PREFIXES)
        own = PREFIXES * PREFIX + OWN * number
        prompt = ids[first : first + PREFIX] + ids[own : own + OWN]
        found.append([Ask(prompt, full, rng.choice((8, 16, 32)), Sampling(), (), ())])
    return found


def run(model: Model, asks: list[list[Ask]], planned: bool) -> tuple[float, JobMetrics]:
    """Seconds and costs of a job, with a plan or first come, first served."""
    held = BUDGET * model.adapted.bytes_per_token
    model.prefix_cache = None if planned else prefix_cache_of(model.adapted, int(CACHE * held))
    texts: dict[int, list[Generation] | Exception] = {}
    begin = time.perf_counter()
    cost = BatchJob(model, held, texts.__setitem__, planned=planned).run(asks)
    seconds = time.perf_counter() - begin
    model.prefix_cache = None
    if any(isinstance(found, Exception) for found in texts.values()) or len(texts) != len(asks):
        raise RuntimeError("some requests of the job have no answer")
    return seconds, cost


def figures(rounds: int) -> Table:
    """`lengthwise batch` against first come, first served with an LRU prefix cache."""
    table = Table(
        "batchllm", "A batch job, prefixes known beforehand (bf16, greedy)",
        f"{REQUESTS} requests in random order, each behind one of {PREFIXES} prefixes of {PREFIX} "
        f"tokens, answers of 8 to 32 tokens, KV of {BUDGET:,} tokens at most; the LRU cache has "
        f"{CACHE:.0%} of that. The same loop runs both, in turn. Medians.",
    )  # fmt: skip
    model = lengthwise.load()
    asks = requests(model)
    run(model, asks[:8], True)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    costs: dict[bool, JobMetrics] = {}
    for _ in range(rounds):
        for planned, found in seconds.items():
            took, costs[planned] = run(model, asks, planned)
            found.append(took)
    before = median(seconds[False])
    for planned, way in ((False, "first come, LRU prefix cache"), (True, "BatchLLM's groups")):
        cost, took = costs[planned], median(seconds[planned])
        table.rows.append(
            {
                "way": way, "seconds": took, "tokens read": cost.read_tokens,
                "reused": 1 - cost.read_tokens / cost.prompt_tokens, "steps": cost.steps,
                "peak KV, MB": cost.kv_peak_bytes / 1e6, "ratio": before / took,
            }
        )  # fmt: skip
    return table
