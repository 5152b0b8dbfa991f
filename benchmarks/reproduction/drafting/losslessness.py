"""Drafting against plain decoding on the real model in float32, over 200 prompts.

A note is given for every text that is not that of plain decoding, with the gap between the two
likeliest tokens where it left. Prompts are stretches of the default document, every second one
repeated so that guesses come true. Every pair of a drafter and a cache has about as many of them;
everything that is guessed is verified. tests/engine/speculative/test_lossless.py runs all pairs on
all prompts on a tiny model (LENGTHWISE_PROMPTS=200).
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.harness import Found, Note, check, load, reference

from lengthwise import recipes
from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed, LengthPolicy
from lengthwise.evaluation.metrics.divergence import first_difference, top_gap
from lengthwise.retrieval.datastore import Datastore, fingerprint

CACHES = (
    "full", "streaming(sinks=4, window=64)", "snapkv(budget=64, window=16)", "think(ratio=0.5)",
    "kivi(bits=4)", "infllm(budget=112, window=48, init=16, block=16)", "yarn(factor=4)",
    "lm_infinite(sinks=4, window=64)",
)  # fmt: skip
DRAFTERS = (
    "lookup", "copyspec", "recycling", "aded", "datastore(path=STORE)", "rasd(layers=14)",
    "layers(keep=14)", "window(window=48)", "rapid(chunk=8, budget=32)",
    'rsd(draft="layers(keep=14)")', "osd(layers=14)", "lookup + recycling + aded",
)  # fmt: skip
STRETCH = 90
# Guesses verified a step: float32 on a CPU pays for each.
GUESSES = 24


def stretches(model: Model, count: int) -> Iterator[list[int]]:
    """Stretches of the default document, to be continued."""
    ids = reference(model)
    for number in range(count):
        piece = ids[1000 + number * 331 :][:STRETCH]
        yield piece if number % 2 else piece + piece[: STRETCH // 2]


def text(model: Model, recipe: str, ids: list[int], new: int, policy: LengthPolicy) -> list[int]:
    """What a recipe answers."""
    plan = model.plan(recipe)
    sequence = Sequence(model.adapted, plan, expected=len(ids) + new)
    request = loop.begin(sequence, Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, ids))
    while not request.done:
        loop.step([request], policy)
    for note in request.metrics.notes:
        print(note, file=sys.stderr)
    return list(request.output)


@check({"method": "", "prompts": "", "equal": ""})
def losslessness(prompts: int = 200, new: int = 32) -> Iterator[Found]:
    """How many texts of each drafter, and on each cache, are those of plain decoding."""
    model = load("float32")
    equal: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "library.lds"
        vocabulary = model.adapted.vocab_size, fingerprint(model.tokenizer)
        Datastore.build(stretches(model, 40), *vocabulary).save(store)
        pairs = itertools.cycle(itertools.product(DRAFTERS, CACHES))
        for ids, (drafter, cache) in zip(stretches(model, prompts), pairs, strict=False):
            recipe = recipes.parse(f"{cache} + {drafter.replace('STORE', json.dumps(str(store)))}")
            plain = text(model, cache, ids, new, Fixed(0))
            drafted = text(model, str(recipe), ids, new, Fixed(GUESSES))
            place = first_difference(plain, drafted)
            for name in (drafter, cache):
                tried[name] += 1
                equal[name] += place is None
            if place is not None:
                sequence = Sequence(model.adapted, model.plan(cache))
                loop.prefill(sequence, ids)
                gap = top_gap(sequence, plain[:place])
                yield Note({f"{cache} + {drafter}": f"token {place}, gap {gap:.2g}"})
    for name, count in tried.items():
        yield {"method": f"`{name}`", "prompts": count, "equal": equal[name]}
