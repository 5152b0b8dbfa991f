"""A forward of some tokens of a text whose other entries are there already, stale or not.

Layer by layer each token that is computed writes its own entry and attends to all entries up to
itself, whoever computed them. Both an edited text (PIE) and one put together of stored pieces
(KVShare) are read so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from contextlib import nullcontext

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.engine.chunks import chunk_of
from lengthwise.engine.kernels.choice import using
from lengthwise.engine.kv_cache.editing import FirstKeys, Turner, first_keys, opened, plain
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.query_scale import scaled
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.rope import StepAngles


class Enough(Exception):
    """Ends a forward early: what deeper layers would give is not wanted."""


# What looks at a layer of a mixed forward before the entries of its tokens are written: rotated
# query `[heads, n, head_dim]`, key and value `[kv_heads, n, ...]`, and the tokens int64 `[n]`. It
# may raise Enough, after which nothing of that layer is written.
Watch = Callable[[LayerCache, Tensor, Tensor, Tensor, Tensor], None]


class _Scattered:
    """Attention of tokens that need not follow each other, over entries that are all in place."""

    def __init__(self, sequence: Sequence, rows: Tensor, length: int, watch: Watch | None) -> None:
        self.sequence, self.rows, self.watch = sequence, rows, watch
        self.first, self.last = int(rows[0]), int(rows[-1])
        self.together = self.last - self.first + 1 == len(rows)
        assert sequence.model.rope is not None
        start = self.first if self.together else None
        self.angles = StepAngles(sequence.model.rope, rows, start, sequence.offset, length)
        self._elsewhere: dict[torch.device, tuple[Tensor, StepAngles]] = {}
        self._masks: dict[tuple[torch.device, int | None], Tensor] = {}

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        cache = self.sequence.layers[layer]
        facts, near = cache.facts, cache.groups[0].near
        rows, angles = self._on(query.device)
        query = scaled(cache.query_scale, query, rows)
        if facts.layout is not None:
            turned = angles.at(facts.layout, facts.rotary_type, cache.rule)
            query, key = facts.layout.rotate(query, turned), facts.layout.rotate(key, turned)
        if self.watch is not None:
            self.watch(cache, query, key, value, rows)
        tail = near.tail
        assert tail is not None
        if self.together:
            tail.key[:, self.first : self.last + 1] = key
            tail.value[:, self.first : self.last + 1] = value
        else:
            tail.key.index_copy_(1, rows, key)
            tail.value.index_copy_(1, rows, value)
        seen = tail.slice(0, self.last + 1)
        if self.together and facts.window is None:
            part = Part(query, seen.key, seen.value, causal=True)
        else:
            part = Part(query, seen.key, seen.value, self._mask(rows, facts.window))
        return attend([part], facts.scaling, facts.softcap, facts.sinks)[0]

    def _on(self, device: torch.device) -> tuple[Tensor, StepAngles]:
        if device == self.rows.device:
            return self.rows, self.angles
        if device not in self._elsewhere:
            self._elsewhere[device] = self.rows.to(device), self.angles.on(device)
        return self._elsewhere[device]

    def _mask(self, rows: Tensor, window: int | None) -> Tensor:
        """Bool `[n, keys]`: entries up to each token, inside a window of the layer's own."""
        which = rows.device, window
        if which not in self._masks:
            distance = rows[:, None] - torch.arange(self.last + 1, device=rows.device)
            mask = distance >= 0
            self._masks[which] = mask if window is None else mask & (distance < window)
        return self._masks[which]


@torch.no_grad()
def recompute(
    sequence: Sequence, tokens: Seq[int], rows: Tensor, chunk: int | None = None,
    watch: Watch | None = None, states: list[Tensor] | None = None,
) -> Tensor | None:  # fmt: skip
    """Computes the entries of some tokens anew, among those that are there, and writes them.

    Args:
        sequence: with entries, or room, for every token.
        tokens: ids of the whole text.
        rows: which tokens, int64 `[n]`, ascending.
        chunk: tokens of a forward; None leaves it to the device.
        watch: looks at every layer.
        states: a list that gets what the head reads of all rows, `[n, hidden]`.

    Returns:
        Logits `[vocab]` after the last of the rows; None where there are none, or where the watch
            ended every forward.
    """
    model, found = sequence.model, None
    length = max(sequence.expected_prompt, len(tokens))
    with nullcontext() if model.kernel is None else using(model.kernel):
        for part in rows.split(chunk or chunk_of(model.device, states is not None)):
            if not len(part):
                break
            ids = torch.tensor([tokens[row] for row in part.tolist()], device=model.device)
            keep = (
                None if states is not None else torch.tensor([len(part) - 1], device=model.device)
            )
            attention = _Scattered(sequence, part, length, watch)
            try:
                found = model.forward(ids, part, attention, keep, states)[-1]
            except Enough:
                continue
    return found


@torch.no_grad()
def replace_tokens(
    sequence: Sequence, start: int, stop: int, tokens: Seq[int], first: FirstKeys | None = None,
    chunk: int | None = None,
) -> tuple[Sequence, FirstKeys | None]:  # fmt: skip
    """A sequence in which some tokens are others, and what stood behind them is kept (PIE).

    Entries before the edit stay. The edit's tokens are computed. Keys behind it are turned by the
    number of tokens that were added or taken away, values stay, and the last token is computed
    again, for its logits.

    Args:
        sequence: whose entries `why_not_movable` finds nothing against; it is not changed.
        start: the first token that goes.
        stop: the first behind it that stays.
        tokens: ids that come in their place.
        first: what an earlier edit gave beside the sequence.
        chunk: tokens of a forward; None leaves it to the device.

    Returns:
        The new sequence, and keys as they were computed, for the next edit. These are None where
            the model computes in 32 bits or more.
    """
    ids = [*sequence.tokens[:start], *tokens, *sequence.tokens[stop:]]
    total, behind = len(ids), start + len(tokens)
    device = sequence.model.device
    new = opened(sequence, total)
    origin = first_keys(sequence, first, stop)
    shift = torch.arange(behind, total, device=device) - origin.home
    if len(shift) and bool((shift == shift[0]).all()):
        shift = shift[:1]
    turner = Turner(sequence.model, shift, max(new.expected_prompt, total))
    for old, fresh, key in zip(sequence.layers, new.layers, origin.keys, strict=True):
        tail, room = plain(old), fresh.groups[0].near.tail
        assert room is not None
        room.key[:, :start], room.value[:, :start] = tail.key[:, :start], tail.value[:, :start]
        room.key[:, behind:] = turner(old, key)
        room.value[:, behind:] = tail.value[:, stop:]
    rows = torch.tensor([*range(start, min(behind, total - 1)), total - 1], device=device)
    states: list[Tensor] | None = None if sequence.noted is None else []
    last = recompute(new, ids, rows, chunk, states=states)
    assert last is not None
    settle(new, ids, last)
    if sequence.noted is not None and states is not None:
        before, after = torch.cat(sequence.noted), torch.cat(states)
        new.noted = [after[-1:]]
        if len(before) == len(sequence):
            between = before.new_empty(len(tokens), before.shape[1])
            new.noted = [torch.cat([before[:start], between, before[stop:]])]
            new.noted[0][rows] = after
    wide = sequence.model.dtype.itemsize >= 4
    return new, None if wide else _kept(new, first, origin, start, behind)


def settle(sequence: Sequence, tokens: Seq[int], last: Tensor) -> None:
    """Makes a text whose entries are all in place the sequence's own.

    Args:
        sequence: as `opened` gave it, filled.
        tokens: ids of the text.
        last: logits `[vocab]` after its last token.
    """
    sequence._tokens.extend(tokens)
    sequence.last_logits = last.clone()
    for layer in sequence.layers:
        layer.slide_window(len(tokens), sequence.expected_prompt, sequence.offset)
    sequence.note_peak()


def _kept(
    new: Sequence, first: FirstKeys | None, origin: FirstKeys, start: int, behind: int
) -> FirstKeys:
    """Keys as they were computed, of entries that were ever turned; others lie between them."""
    low, parts = behind, [origin]
    if first is not None and first.start < start:
        low, count = first.start, start - first.start
        earlier = FirstKeys(low, first.home[:count], [key[:, :count] for key in first.keys])
        parts = [earlier, first_keys(new, None, start).until(behind), origin]
    home = torch.cat([part.home for part in parts])
    keys = [torch.cat(each, 1) for each in zip(*(part.keys for part in parts), strict=True)]
    if len(home):
        # The last token was computed where it stands now.
        home[-1] = len(new) - 1
        for key, now in zip(keys, first_keys(new, None, len(new) - 1).keys, strict=True):
            key[:, -1:] = now
    return FirstKeys(low, home, keys)


__all__ = ["Enough", "Watch", "recompute", "replace_tokens", "settle"]
