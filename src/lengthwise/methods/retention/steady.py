"""Retentions that keep to one budget from the end of the prompt on, while a text is written.

They drop entries in runs: memory is really freed, and drafts have room until the next run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, Phase
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.counting import full_layers, layer_tokens, needs_full_layers

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.placement import Placement
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts

# Entries are dropped in runs of this share of the budget.
RUNS = 64


class SteadyMethod(Method, ABC):
    """A method of the kind. budget: what each layer holds at all times; never fewer than floor."""

    budget: Budget
    floor: int

    def check(self, model: AdaptedModel) -> None:
        """Raises Refused for a model without a full layer."""
        needs_full_layers(self.name, model)

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        """Raises Refused where the budget pays for no entry after a prompt of `length` tokens."""
        tokens = self.tokens(model, length)
        for layer in full_layers(model):
            self.capacity(model, layer, tokens)

    def tokens(self, model: AdaptedModel, length: int) -> int:
        """Plain tokens whose bytes a layer may hold once a prompt of `length` tokens was read."""
        return layer_tokens(self.budget, model, length, self.floor)

    @abstractmethod
    def capacity(self, model: AdaptedModel, layer: LayerFacts, tokens: int) -> tuple[int, int]:
        """Entries that the bytes of `tokens` plain tokens pay for, and how many are dropped at
        once; raises Refused where none would stay."""


class Steady(ABC):
    """Its state for one sequence; `keep` says who stays.

    tokens: plain ones that a layer may hold. limits: by layer, how many entries set off the next
    deletion.
    """

    wants_token_nll = False

    def __init__(self, method: SteadyMethod) -> None:
        self.method = method
        self.tokens = 0
        self.limits: dict[int, int] = {}

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        """Drops a run of entries where the layer is full, at the end of the prompt and later."""
        if update.phase is Phase.CHUNK:
            return
        layer, model = update.layer, update.sequence.model
        if update.phase is Phase.PREFILL:
            self.tokens = self.method.tokens(model, len(update.sequence))
            self.limits[layer.index] = self.tokens + 1
        if len(group.compressible) < self.limits[layer.index]:
            return
        capacity, run = self.method.capacity(model, layer, self.tokens)
        self.keep(group, update, capacity - run, run)
        self.limits[layer.index] = capacity

    @abstractmethod
    def keep(self, group: HeadGroup, update: CacheUpdate, count: int, room: int) -> None:
        """Keeps `count` entries of each head, with room for so many more."""

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """Tokens until the first layer is full; None before the prompt has ended."""
        if not self.limits:
            return None
        left = (n - len(sequence.head_groups(i)[0].compressible) for i, n in self.limits.items())
        return min(left)


__all__ = ["RUNS", "Steady", "SteadyMethod"]
