"""Logits that depend on where a query stands: a factor on queries, by their positions.

It is applied to un-rotated queries as they come from the model, which is the same as a factor on
their logits. So everything below (parts, kernels, selections, what a retention sums) sees one
query. Layers with a window of the model's own keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence as Seq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.models.layer_facts import LayerFacts

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.engine.kv_cache.step_metadata import StepMetadata
    from lengthwise.models.adapted_model import LayerAttention


@dataclass(frozen=True)
class QueryScale:
    """factor: positions int64 `[n]`, counted from 0 in the text -> factors float32 `[n]`.

    first: layers before it are left alone. key: equal for scales that give the same.
    """

    factor: Callable[[Tensor], Tensor] = field(compare=False)
    first: int
    key: Hashable

    def of(self, facts: LayerFacts) -> QueryScale | None:
        """The scale of one layer; None where it has none.

        Args:
            facts: of the layer.
        """
        return self if facts.index >= self.first and facts.window is None else None

    def __call__(self, query: Tensor, positions: Tensor) -> Tensor:
        """Queries times their factors, in their dtype.

        Args:
            query: un-rotated, `[heads, n, head_dim]`.
            positions: int64 `[n]`.
        """
        factor = self.factor(positions.to(query.device)).to(query.dtype)
        return query * factor[:, None]


def scaled(scale: QueryScale | None, query: Tensor, positions: Tensor) -> Tensor:
    """Queries as a layer attends with them.

    Args:
        scale: of the layer; None leaves them.
        query: un-rotated, `[heads, n, head_dim]`.
        positions: int64 `[n]`.
    """
    return query if scale is None else scale(query, positions)


def with_scales(
    attention: LayerAttention, sequences: Seq[Sequence], steps: Seq[StepMetadata]
) -> LayerAttention:
    """The attention of a forward, given queries that carry the factors of their sequences.

    Args:
        attention: of the new tokens of all sequences, side by side.
        sequences: the rows of the forward.
        steps: of these sequences.
    """
    if not any(layer.query_scale for sequence in sequences for layer in sequence.layers):
        return attention
    counts = [step.count for step in steps]

    def scaling(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows = zip(sequences, steps, query.split(counts, 1), strict=True)
        parts = [scaled(row.layers[layer].query_scale, q, step.index) for row, step, q in rows]
        return attention(layer, torch.cat(parts, 1), key, value)

    return scaling


__all__ = ["QueryScale", "scaled", "with_scales"]
