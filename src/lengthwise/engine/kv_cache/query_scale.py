"""Logits that depend on where a query stands: a factor on queries, by their positions.

It is applied to un-rotated queries as they come from the model, which is the same as a factor on
their logits. So everything below (parts, kernels, selections, what a retention sums) sees one
query. Layers with a window of the model's own keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from torch import Tensor

from lengthwise.models.layer_facts import LayerFacts


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


__all__ = ["QueryScale", "scaled"]
