"""Requests that step by the ordinary step or by the static one, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.static import graphs
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens

RECIPES = [
    "full",
    "snapkv(budget=50%, window=8, floor=8)",
    "pyramidkv(budget=24)",
    "streaming(sinks=2, window=24)",
    "lm_infinite(window=24)",
    "yarn(factor=2)",
    "snapkv(budget=50%, window=8, floor=8) + yarn(factor=2)",
]

PLAIN = [recipe for recipe in RECIPES if "window=24" not in recipe]


@lru_cache
def model(family: str = "llama") -> AdaptedModel:
    sizes: dict[str, Any] = {"initializer_range": 0.15, "max_position_embeddings": 64}
    return adapt(tiny_model(family, **sizes))


class Steps:
    """Requests of one recipe, by the ordinary step or by the static one; `static` counts these."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.static = 0
        serve = graphs.serve

        def counted(*given: Any) -> graphs.Served | None:
            served = serve(*given)
            self.static += served is not None
            return served

        monkeypatch.setattr(loop, "serve", counted)

    def begin(
        self, recipe: str, prompts: Seq[Seq[int]], new: int, family: str = "llama",
        expected: bool = True, **options: Any,
    ) -> list[Request]:  # fmt: skip
        adapted = model(family)
        plan, requests = resolve(recipe, adapted), []
        for prompt in prompts:
            size = len(prompt) + new if expected else 0
            sequence = Sequence(adapted, plan, expected=size)
            logits = loop.prefill(sequence, prompt)
            request = loop.begin(sequence, options.get("sampling", Sampling()), new, ())
            loop.start(request, logits)
            requests.append(request)
        return requests

    def step(self, requests: Seq[Request], static: bool) -> None:
        if static:
            self.patch.setenv("LENGTHWISE_GRAPH", "twin")
        else:
            self.patch.delenv("LENGTHWISE_GRAPH", raising=False)
        loop.step([request for request in requests if not request.done], Fixed())

    def run(self, requests: list[Request], static: bool) -> list[list[int]]:
        while not all(request.done for request in requests):
            self.step(requests, static)
        return [request.output for request in requests]


def prompts(*lengths: int) -> list[list[int]]:
    return [tokens(length, seed=length) for length in lengths]


def held(request: Request) -> list[list[Tensor]]:
    """Everything that the cache of a request holds, spare room left out."""
    found = []
    for _, group in request.sequence.groups():
        for store in (group.near, group.far):
            entries = store.read()
            found.append([] if entries is None else entries.tensors())
    return found


def assert_same_cache(ours: Request, right: Request) -> None:
    for mine, theirs in zip(held(ours), held(right), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            # Rows side by side store birth ids alike: of each head where one row needs that.
            torch.testing.assert_close(a, b.expand_as(a), rtol=1e-4, atol=1e-5)
    assert [(len(layer.groups[0].near), layer.groups[0].near_start)
            for layer in ours.sequence.layers] == [
        (len(layer.groups[0].near), layer.groups[0].near_start)
        for layer in right.sequence.layers
    ]  # fmt: skip
