"""Drafting changes when tokens come, never which: every drafter over every kind of cache."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from functools import lru_cache

import pytest

from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed, LengthPolicy
from lengthwise.methods.base import Method, Question
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import registry
from lengthwise.testing.tiny import tiny_model

VOCAB, NEW = 64, 24
PROMPTS = int(os.environ.get("LENGTHWISE_PROMPTS", "3"))
CACHES = (
    "full", "streaming(sinks=2, window=24)", "snapkv(budget=24, window=8)", "think(ratio=0.5)",
    "kivi(bits=2, group=8, residual=16)", str(InfLLM.example()),
    "yarn(factor=4)", "lm_infinite(sinks=2, window=24)",
)  # fmt: skip


@lru_cache
def model() -> AdaptedModel:
    """Attention so sharp, and words so few, that guesses come true and fail in turn."""
    return adapt(tiny_model("llama", initializer_range=0.15, vocab_size=VOCAB))


def prompts() -> Iterator[list[int]]:
    dice = random.Random(11)
    for _ in range(PROMPTS):
        piece = [dice.randrange(3, 20) for _ in range(dice.randint(6, 30))]
        yield (piece * 4)[: dice.randint(30, 70)]


def drafters() -> list[type[Method]]:
    """Registered methods that guess, but those with a test file of their own: `model` compares
    tokenizers, which tiny models lack, and `medusa` and `eagle` read trained checkpoints."""
    return [
        cls
        for cls in registry.methods().values()
        if cls.question is Question.DRAFTING
        and cls.start_drafter is not Method.start_drafter
        and cls.name not in ("model", "medusa", "eagle")
    ]


def outputs(methods: list[Method], policy: LengthPolicy | None, **sampling: float) -> list[str]:
    """What all prompts are answered with, as one batch."""
    plan = recipes.resolve(methods, model())
    requests = []
    for prompt in prompts():
        sequence = Sequence(model(), plan, expected=len(prompt) + 2 * NEW)
        request = loop.begin(sequence, Sampling(**sampling), NEW, ())  # type: ignore[arg-type]
        loop.start(request, loop.prefill(sequence, prompt))
        requests.append(request)
    while active := [request for request in requests if not request.done]:
        loop.step(active, policy)
    assert not any(request.metrics.notes for request in requests), requests[0].metrics.notes
    return [" ".join(map(str, request.output)) for request in requests]


@lru_cache
def plain(cache: str, temperature: float = 0.0) -> list[str]:
    return outputs(list(recipes.parse(cache).methods), None, temperature=temperature, seed=5)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("drafter", drafters(), ids=lambda cls: cls.name)
def test_greedy_drafting_is_token_equal_to_plain_decoding(
    drafter: type[Method], cache: str
) -> None:
    methods = [*recipes.parse(cache).methods, drafter.example()]
    assert outputs(methods, Fixed()) == plain(cache)


@pytest.mark.parametrize("cache", ["full", "kivi(bits=2, group=8, residual=16)"])
def test_all_drafters_at_once_are_token_equal_to_plain_decoding(cache: str) -> None:
    methods = [*recipes.parse(cache).methods, *(cls.example() for cls in drafters())]
    assert outputs(methods, Fixed()) == plain(cache)


@pytest.mark.parametrize("names", ["lookup + recycling + aded", "copyspec + datastore"])
def test_sampling_with_deterministic_guesses_gives_the_text_of_its_seed(names: str) -> None:
    methods = [registry.find(name).example() for name in names.split(" + ")]
    assert outputs(methods, Fixed(), temperature=0.8, seed=5) == plain("full", 0.8)
