"""Bounds on what a query can give to runs of keys, by the smallest and largest of every channel."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.methods.selection.reading import by_key_head


class Bounds:
    """Channel-wise bounds of runs of `size` keys: low and high `[kv_heads, runs, head_dim]`.

    held: keys there are. The last run may still be filling; it has bounds, too.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def add(self, key: Tensor) -> None:
        """Takes in the keys that follow.

        Args:
            key: `[kv_heads, n, head_dim]`.
        """
        size = self.size
        filling = self.held % size
        self.held += key.shape[1]
        if filling and self.low is not None and self.high is not None:
            joins = key[:, : size - filling]
            self.low[:, -1] = torch.minimum(self.low[:, -1], joins.amin(1))
            self.high[:, -1] = torch.maximum(self.high[:, -1], joins.amax(1))
            key = key[:, size - filling :]
        whole = key.shape[1] // size * size
        parts = [key[:, :whole].unflatten(1, (-1, size))] if whole else []
        if key.shape[1] > whole:
            parts.append(key[:, None, whole:])
        lows = [part.amin(2) for part in parts]
        highs = [part.amax(2) for part in parts]
        if parts:
            self.low = torch.cat(lows if self.low is None else [self.low, *lows], 1)
            self.high = torch.cat(highs if self.high is None else [self.high, *highs], 1)

    def scores(self, query: Tensor) -> Tensor:
        """The most that a key of each run can give a query.

        Args:
            query: `[heads, head_dim]`, as it meets these keys.

        Returns:
            Bounds on their products, `[heads, runs]`.
        """
        assert self.low is not None and self.high is not None
        grouped = by_key_head(query[:, None], self.low.shape[0])
        found = torch.matmul(grouped.clamp_min(0), self.high.transpose(1, 2))
        found += torch.matmul(grouped.clamp_max(0), self.low.transpose(1, 2))
        return found.reshape(query.shape[0], -1)

    def tensors(self) -> list[Tensor | None]:
        return [self.low, self.high]


def keys_of(runs: Tensor, size: int, rest: range) -> Tensor:
    """The ids of all keys of some runs, and of those behind them.

    Args:
        runs: numbers of runs, ascending, int64 `[heads, n]`.
        size: keys of a run.
        rest: ids of the keys behind all whole runs.

    Returns:
        int64 `[heads, n * size + len(rest)]`, ascending.
    """
    inside = torch.arange(size, device=runs.device)
    chosen = (runs[..., None] * size + inside).flatten(1)
    behind = torch.arange(rest.start, rest.stop, device=runs.device)
    return torch.cat([chosen, behind.expand(len(chosen), -1)], 1)


__all__ = ["Bounds", "keys_of"]
