"""H2O: a fifth of a prompt of 2,048 tokens, and the 256 tokens that follow it, at six places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.retention.copying import AFTER, bench, means
from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.methods.base import Method
from lengthwise.methods.retention.h2o import H2O, HeavyHitters
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.models.adapted_model import AdaptedModel

PROMPT = 2048


@dataclass(frozen=True)
class RandomEviction(H2O):
    """H2O whose heavy hitters are drawn by lot."""

    name: ClassVar[str] = "random"

    def start_retention(self, model: AdaptedModel) -> HeavyHitters:
        return RandomHitters(self)


class RandomHitters(HeavyHitters):
    def __init__(self, method: H2O) -> None:
        super().__init__(method)
        self.generator = torch.Generator().manual_seed(0)

    def score(self, body: KVStore, seen: int) -> Tensor:
        attention_mass = body.attention_mass()
        assert attention_mass is not None
        return torch.rand(attention_mass.shape, generator=self.generator)


SETTINGS: dict[str, Method | None] = {
    "everything": None,
    "`h2o(recent=0.75)`": H2O(recent=0.75),
    "`h2o(normalise=true)`": H2O(normalise=True),
    "`h2o`": H2O(),
    "`streaming(window=406)`: recency and 4 sinks": Streaming(sinks=4, window=406),
    "`h2o(recent=1)`: recency alone": H2O(recent=1.0),
    "half by lot, half the latest": RandomEviction(),
}


@check({"what is kept": "", "loss": ".3f", "at the six places": ".3f"})
def h2o() -> Iterator[Found]:
    """Heavy hitters, beside recency and entries drawn by lot."""
    chosen = bench()
    for name, method in SETTINGS.items():
        losses = []
        for start in range(0, 60_000, 10_000):
            ids = chosen.document()[start : start + PROMPT + AFTER]
            read = chosen.read(ids[:PROMPT], method)
            losses.append(chosen.after(read, None, ids[PROMPT:], 0))
        found = means(losses)
        yield {"what is kept": name, "loss": found["mean"], "at the six places": found["each"]}
