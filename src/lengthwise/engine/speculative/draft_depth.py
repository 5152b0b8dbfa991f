"""How many levels a drafter goes, decided level by level while it drafts."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class DraftDepth:
    """Tells a drafter that runs a model whether to draft another level. This one never stops it.

    wants_state: whether hidden states are looked at. levels: how many were drafted.
    """

    wants_state = False

    def __init__(self) -> None:
        self.levels = 0

    def should_continue(self, bucket: int, prior: float, state: Tensor | None = None) -> bool:
        """Whether to draft another level; called after each of them.

        What was drawn stays, whatever the answer.

        Args:
            bucket: of the level's best guess.
            prior: the drafter's own probability of that guess.
            state: the hidden state `[hidden]` it was read from, where `wants_state` is set.
        """
        self.levels += 1
        return True


class DrafterView(Protocol):
    """What a length policy sees of a drafter; see `drafter.Drafter`."""

    name: str
    runs_model: bool
    draft_depth: DraftDepth


class UpTo(DraftDepth):
    """Goes `most` levels deep."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def should_continue(self, bucket: int, prior: float, state: Tensor | None = None) -> bool:
        return super().should_continue(bucket, prior, state) and self.levels < self.most


__all__ = ["DraftDepth", "DrafterView", "UpTo"]
