"""What the last queries of a prompt look at, and keeping just that: SnapKV, PyramidKV and Ada-KV.

The votes are probabilities of the model's own softmax, made by the engine's one primitive. A pass
yields each query's log-sum-exp, then column sums of the probabilities it implies. Nothing of the
size [queries, keys] outlives a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.received import received_attention
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, Phase
from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.methods.budget import Budget
from lengthwise.methods.retention.counting import (
    full_layers,
    near_tokens,
    needs_full_layers,
    prompt_entries,
    require_budget,
)

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts


class VotingMethod(Method, ABC):
    """A method that keeps what a prompt's last queries look at. How much of it a layer keeps is the
    method's own: `tokens`.

    window: how many last queries vote. kernel and pooling ("avg" or "max") spread a vote over its
    neighbours, so that phrases are kept rather than single tokens. A prompt that is within
    what a layer may hold is left whole.
    """

    budget: Budget
    window: int
    kernel: int
    pooling: str

    @abstractmethod
    def tokens(self, model: AdaptedModel, layer: LayerFacts, length: int, taken: int) -> int:
        """Plain tokens whose bytes the layer may hold of a prompt of `length` tokens; `taken` of
        them belong to a near window."""

    def check(self, model: AdaptedModel) -> None:
        """Raises Refused where the options cannot be met on this model."""
        needs_full_layers(self.name, model)
        if self.kernel % 2 == 0:
            raise Refused(
                f"{self.name}(kernel={self.kernel}): a vote spreads evenly to both sides, so "
                "kernel is odd",
                f"use kernel={self.kernel + 1}",
            )
        require_budget(
            f"{self.name}(budget={self.budget}, window={self.window}): the window alone is",
            self.budget, self.window, f"use a window of at most {self.budget}",
        )  # fmt: skip

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        self.start_retention(model).check(model, length, placement)

    def start_retention(self, model: AdaptedModel) -> PromptVotes:
        return PromptVotes(self)


class PromptVotes:
    """A retention that acts once, when the prompt is complete; later tokens are all kept. A prompt
    that is within what a layer may hold is left whole."""

    wants_attention_mass = False
    wants_token_nll = False

    def __init__(self, method: VotingMethod) -> None:
        self.method = method
        self.window = method.window

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        return None

    def retain(self, group: HeadGroup, update: CacheUpdate) -> Seq[HeadGroup] | None:
        if update.phase is not Phase.PREFILL:
            return None
        model, length = update.sequence.model, len(update.sequence)
        count = self.count(model, update.layer, length, group.tighten())
        if count is None or count >= len(group.compressible):
            return None
        latest = min(self.window, count) if group.placement.window is None else 0
        return self.keep(group, update, count, latest)

    def count(self, model: AdaptedModel, layer: LayerFacts, length: int, near: int) -> int | None:
        """Entries that stay of those a prompt of `length` tokens has beyond a window, which keeps
        `near` (0: there is none). None where all stay; raises Refused where none could."""
        taken = near_tokens(layer, model.dtype, near)
        allowed = self.method.tokens(model, layer, length, taken)
        return prompt_entries(layer, model.dtype, length, allowed, near)

    def check(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        """Raises Refused where a prompt of `length` tokens cannot be kept within the budget."""
        near = 0 if placement.window is None else HeadGroup(placement).near_at(length)
        for layer in full_layers(model):
            self.count(model, layer, length, near)

    def keep(
        self, group: HeadGroup, update: CacheUpdate, count: int, latest: int
    ) -> Seq[HeadGroup] | None:
        """Keeps `count` entries a key head: the `latest` ones and the best voted of the others.

        Returns what takes the group's place, as `retain` does.
        """
        votes = self.votes(group, update, latest)
        ids = votes.topk(count - latest, dim=1).indices.sort(1).values
        older = votes.shape[1]
        last = torch.arange(older, older + latest, device=ids.device).expand(len(ids), -1)
        group.keep(torch.cat([ids, last], 1))
        return None

    def votes(self, group: HeadGroup, update: CacheUpdate, latest: int) -> Tensor:
        """What entries before the `latest` ones are given, pooled: float32 `[kv_heads, n]`."""
        older = len(group.compressible) - latest
        votes = received_attention(group, update, self.window)[:, :older]
        best = pool(votes, self.method.kernel, self.method.pooling)
        found: Tensor = best.unflatten(0, (update.layer.num_kv_heads, -1)).mean(1)
        return found


def pool(votes: Tensor, kernel: int, pooling: str) -> Tensor:
    """Votes `[heads, keys]` averaged or maximised over `kernel` (odd) neighbours.

    A mean counts what lies beyond the ends as zeros, as the authors' does.
    """
    if pooling == "max":
        return F.max_pool1d(votes, kernel, 1, kernel // 2)
    return F.avg_pool1d(votes, kernel, 1, kernel // 2)


__all__ = ["PromptVotes", "VotingMethod", "pool"]
