"""Expected Attention: entries stay that the queries still to come are expected to attend to.

Devoto et al., "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries
Distribution", 2025, arXiv:2510.00636.

Attention of queries that are not there yet can be foretold: queries before rotation are nearly
normal. So their mean m and covariance C over the prompt, of each query head, are turned by the mean
rotation R of the next T positions, and the expectation of exp(q k) has a closed form. With s the
scale of the model,

    m' = R m,  C' = R C R^T
    z_i = s k_i m' + s^2 k_i^T C' k_i / 2
    e_i = mean over the query heads of a group of softmax(z)_i
    score_i = (e_i + epsilon) |v_i|
    kept = the first `sinks` tokens + the best scored of the others, per key head

The first tokens are left out of the mean, the covariance and the softmax, and are always kept.

With `adaptive` the heads of a layer share one budget as in Ada-KV (`head_budgets.py`), with the
safeguard of kvpress.

Ours: queries are taken as the model makes them, so families with norms on queries need nothing of
their own. Caps on logits and sinks that a model has learned are left out. It acts at the end of the
prompt; the authors also cut while decoding. A budget of T tokens is the bytes of T plain tokens.

Defaults are those of the authors' code in kvpress: T = 512, 4 sinks, epsilon = 0. (The paper has
epsilon = 0.02, which loses more here, and the leaderboard of kvpress 0.01 with heads that share.)
There is no default budget; ours is 1,024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.retention import CacheUpdate
from lengthwise.methods.base import Budget, Needs, Paper, option
from lengthwise.methods.bases import ScoredRetention
from lengthwise.methods.retention.head_budgets import head_counts


@dataclass(frozen=True)
class ExpectedAttention(ScoredRetention):
    """Keeps what future queries are expected to attend to."""

    name: ClassVar[str] = "expected_attention"
    paper: ClassVar[Paper] = Paper(
        "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries "
        "Distribution",
        "Devoto et al.",
        2025,
        arxiv="2510.00636",
        code="https://github.com/NVIDIA/kvpress",
    )
    # Future queries are turned to meet keys where they stood when they were read.
    ordinary_only: ClassVar[bool] = True
    frozen_positions: ClassVar[bool] = True

    sinks: int = option(4, "first tokens that are left out and always kept", low=0)
    recent: int = option(0, "last tokens of the prompt that are always kept", low=0)
    future: int = option(512, "positions after the prompt that are looked ahead to (T)", low=1)
    covariance: bool = option(True, "how queries spread counts, and not their mean alone")
    value_norm: bool = option(True, "scores are multiplied by the norm of the value")
    epsilon: float = option(
        0.0, "added to an expected probability before that", low=0.0,
        needs=Needs("value_norm=true", lambda method: method.value_norm),
    )  # fmt: skip
    adaptive: bool = option(False, "the heads of a layer share one budget, as in Ada-KV")
    alpha: float = option(
        0.2, "share of it that each head's own best get first", low=0.0, high=1.0,
        needs=Needs("adaptive=true", lambda method: method.adaptive),
    )  # fmt: skip

    @classmethod
    def example(cls) -> ExpectedAttention:
        return cls(budget=Budget(50, "%"), future=16, floor=8)

    @property
    def moments(self) -> int:
        return self.sinks

    def head_counts(self, scores: Tensor, count: int) -> list[int]:
        if not self.adaptive:
            return super().head_counts(scores, count)
        return head_counts(scores, count, self.alpha, "floor")

    def score(self, key: Tensor, value: Tensor, update: CacheUpdate) -> Tensor:
        first = min(self.sinks, key.shape[1])
        expected = self.expected(key[:, first:], update)
        if self.value_norm:
            expected = (expected + self.epsilon) * value[:, first:].float().norm(dim=-1)
        return torch.cat([expected.new_zeros(len(key), first), expected], 1)

    def expected(self, key: Tensor, update: CacheUpdate) -> Tensor:
        """Expected probabilities of rotated keys `[kv_heads, n, head_dim]`: `[kv_heads, n]`."""
        assert update.moments is not None and update.moments.mean is not None
        scale, heads = update.layer.scaling, len(key)
        mean = self.turned(update.moments.mean[:, None], update)[:, 0]
        means = mean.unflatten(0, (heads, -1))
        # By key head: a head's group of query heads at a time is all that is held.
        found = [k.float() @ m.mT * scale for k, m in zip(key, means, strict=True)]
        if self.covariance:
            spread = self.turned(self.turned(update.moments.covariance(), update).mT, update)
            groups = spread.unflatten(0, (heads, -1))
            for k, of_heads, logits in zip(key.float(), groups, found, strict=True):
                both = [((k @ each) * k).sum(-1) for each in of_heads]
                logits += torch.stack(both, -1) * (scale**2 / 2)
        return torch.stack([logits.softmax(0).mean(-1) for logits in found])

    def turned(self, x: Tensor, update: CacheUpdate) -> Tensor:
        """x `[heads, n, head_dim]` by the mean rotation of the positions after the prompt."""
        sequence, layer = update.sequence, update.layer
        rope, length = sequence.model.rope, len(sequence)
        if layer.layout is None or rope is None:
            return x
        positions = torch.arange(length, length + self.future) + sequence.offset
        angles = rope.angles(
            layer.layout, layer.rotary_type, positions, sequence.frequency_rule, length
        )
        cos, sin = (each.float().mean(0, keepdim=True) for each in angles)
        return layer.layout.rotate(x, (cos, sin))


__all__ = ["ExpectedAttention"]
