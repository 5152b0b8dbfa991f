"""Stage two of KVShare: stale entries that what follows attends to are computed again.

At the end of the prompt, and while writing every so many tokens, the entries with the largest
product of deviation and attention received since are computed anew. These moments depend on token
indices alone, so that drafting sees what plain decoding sees.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from dataclasses import replace

import torch
from torch import Tensor

from lengthwise.engine.blending import Blended
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.mixed import recompute


class Refresh:
    """Stands where a retention does, and deletes nothing.

    deviation: float32 `[n]` of the tokens of pieces, 0 for those that are as fresh as they get.
    tokens: how many are computed again each time. every: tokens written between two times.
    count: how many were.
    """

    window = 0
    wants_attention_mass = True
    wants_token_nll = False

    def __init__(self, deviation: Tensor, tokens: int, every: int) -> None:
        self.deviation, self.tokens, self.every = deviation, tokens, every
        self.count = 0
        self._times = 0
        self._before: Tensor | None = None

    def retain(self, group: HeadGroup, update: CacheUpdate) -> Seq[HeadGroup] | None:
        """Computes entries again, once all layers have what was committed.

        Args:
            group: of one layer.
            update: when this is called, and with what.
        """
        sequence = update.sequence
        if update.phase is Phase.CHUNK or update.layer.index != sequence.pruned_layers()[-1]:
            return None
        assert isinstance(sequence, Sequence) and sequence.prompt_length is not None
        times = (len(sequence) - sequence.prompt_length) // self.every
        if update.phase is Phase.PREFILL or times > self._times:
            self._times = times
            self._again(sequence)
        return None

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """Tokens that may be written before entries are computed again.

        Args:
            sequence: whose entries they are.
        """
        if sequence.prompt_length is None or not bool(self.deviation.any()):
            return None
        return self.every - (len(sequence) - sequence.prompt_length) % self.every

    def _again(self, sequence: Sequence) -> None:
        received = self._received(sequence)
        since = received if self._before is None else received - self._before
        self._before = received
        score = self.deviation * since
        most = min(self.tokens, int((score > 0).sum()))
        if not most:
            return
        rows = score.topk(most).indices.sort().values
        recompute(sequence, list(sequence.tokens), rows)
        self.deviation = self.deviation.index_fill(0, rows, 0.0)
        self.count += most

    def _received(self, sequence: Sequence) -> Tensor:
        """Attention that tokens of pieces received so far, over all layers and heads."""
        total = torch.zeros_like(self.deviation)
        for index in sequence.pruned_layers():
            mass = sequence.head_groups(index)[0].near.attention_mass()
            assert mass is not None
            total += mass[:, : len(total)].sum(0).to(total.device)
        return total


def refreshed(blended: Blended, tokens: int, every: int) -> Sequence:
    """The sequence of a text that was put together, with stage two at work.

    Args:
        blended: the text.
        tokens: how many are computed again each time.
        every: tokens written between two times.
    """
    sequence = blended.sequence
    sequence.retention = Refresh(blended.deviation, tokens, every)
    sequence._observation.stride = 1
    for _, group in sequence.groups():
        tail = group.near.tail
        assert tail is not None
        mass = torch.zeros(tail.key.shape[:2], dtype=torch.float32, device=tail.key.device)
        group.near.replace(replace(tail, attention_mass=mass))
    return sequence


def without_refresh(sequence: Sequence) -> Sequence:
    """The same sequence, or a copy of it without stage two where it has that.

    Args:
        sequence: it is not changed.
    """
    if not isinstance(sequence.retention, Refresh):
        return sequence
    new = copy.deepcopy(sequence)
    new.retention, new._observation.stride = None, 0
    for _, group in new.groups():
        tail = group.near.tail
        group.near.replace(None if tail is None else replace(tail, attention_mass=None))
    return new


__all__ = ["Refresh", "refreshed", "without_refresh"]
