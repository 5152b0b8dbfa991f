"""The tokens of a text as tensors, for what looks at them before each token is chosen.

A text grows by a token, and a draft's walk goes along a branch and back. What both texts begin with
stays as it is, so a token costs what changes, however long the text.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor


class ContextIds:
    """The newest text that was shown: its ids, and how often each token stands in it."""

    def __init__(self) -> None:
        self._known: list[int] = []
        self._fixed = 0
        self._ids = torch.empty(0, dtype=torch.int64)
        self._counts: Tensor | None = None

    def follow(self, context: Seq[int], fixed: int, device: torch.device) -> None:
        """Goes over to another text.

        Args:
            context: its ids.
            fixed: of the first so many it is known that they stay while this number does.
            device: of the tensors.
        """
        if self._ids.device != device:
            self._known, self._ids, self._counts = [], self._ids[:0].to(device), None
        same = common(self._known, context, fixed if fixed == self._fixed else 0)
        gone, new = self._known[same:], list(context[same:])
        self._known[same:], self._fixed = new, fixed
        if len(self._known) > len(self._ids):
            room = self._ids.new_zeros(len(self._known) * 5 // 4 + 64)
            room[:same] = self._ids[:same]
            self._ids = room
        added = torch.tensor(new, dtype=torch.int64, device=device)
        self._ids[same : len(self._known)] = added
        if self._counts is not None:
            _count(self._counts, torch.tensor(gone, dtype=torch.int64, device=device), -1)
            _count(self._counts, added, 1)

    @property
    def ids(self) -> Tensor:
        """Of the whole text, int64 `[tokens]`; valid until another text is shown."""
        return self._ids[: len(self._known)]

    def seen(self, vocab: int) -> Tensor:
        """Which tokens stand in the text, bool `[vocab]`.

        Args:
            vocab: tokens there are.
        """
        if self._counts is None or len(self._counts) != vocab:
            counts = self._ids.new_zeros(vocab)
            _count(counts, self.ids, 1)
            self._counts = counts
        return self._counts > 0


def common(known: list[int], context: Seq[int], fixed: int = 0) -> int:
    """How many tokens two texts begin with alike.

    Args:
        known: one of them.
        context: the other.
        fixed: of the first so many it is known; they are not compared.
    """
    most = min(len(known), len(context))
    low = min(fixed, most)
    # Slices are compared in C: a walk along the text in Python would take 50 times as long.
    while low < most:
        middle = (low + most + 1) // 2
        if known[low:most] == list(context[low:most]):
            return most
        if known[low:middle] == list(context[low:middle]):
            low = middle
        else:
            most = middle - 1
    return low


def _count(counts: Tensor, ids: Tensor, by: int) -> None:
    counts.index_add_(0, ids, torch.full_like(ids, by))


__all__ = ["ContextIds", "common"]
