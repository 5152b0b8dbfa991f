"""Runs that the tests of drafters with tables share."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from functools import lru_cache

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

VOCAB = 64


@lru_cache
def model(family: str = "llama", vocab_size: int = VOCAB) -> AdaptedModel:
    return adapt(tiny_model(family, initializer_range=0.15, vocab_size=vocab_size))


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, VOCAB) for _ in range(count)]


def generate(
    prompt: Seq[int],
    *drafters: Drafter,
    on: AdaptedModel | None = None,
    sampling: Sampling | None = None,
    new: int = 50,
) -> loop.Request:
    starters = tuple(lambda drafter=drafter: drafter for drafter in drafters)
    return answered(on or model(), Plan(drafters=starters), prompt, sampling, new)


def answered(
    on: AdaptedModel, plan: Plan, prompt: Seq[int], sampling: Sampling | None, new: int
) -> loop.Request:
    """A request that ran to its end, in which nothing was noted."""
    sequence = Sequence(on, plan)
    request = loop.begin(sequence, sampling or Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, prompt))
    for _ in loop.run(request, Fixed()):
        pass
    loop.finish(request)
    assert not request.metrics.notes
    return request
