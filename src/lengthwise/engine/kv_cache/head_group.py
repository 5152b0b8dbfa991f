"""Key heads of one layer that share a policy: what they keep, and the parts they give to attention.

Most layers have one group of all heads. RazorAttention splits a layer into heads that keep
everything and heads that keep little; each group then has segments of its own, so ragged heads are
really stored ragged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.entries import Entries, Segment
from lengthwise.engine.kv_cache.offload import OffloadedSegment
from lengthwise.engine.roles import Choice, Queries, Selector

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.step_metadata import Block, Frame

# A finite window may overhang by 1/64 of itself (at most this many entries) before it is moved.
MAX_SLACK = 64


def slack_of(window: int, selecting: bool) -> int:
    """Entries that leave a window together; one fewer is the most by which it overhangs."""
    # A selection deletes nothing, so its overhang costs no bytes and leaves room for drafts.
    return max(1, min(MAX_SLACK, window // (4 if selecting else 64)))


class Fold(Protocol):
    """What becomes of near entries that leave the window, where that is not a move to far."""

    def __call__(self, group: Group, leaving: Entries) -> None: ...

    def nbytes(self) -> int:
        """Bytes of what it holds itself."""
        ...


@dataclass
class Group:
    """heads: key heads int64 `[h]` of the layer, or None for all of them.

    near holds entries inside the window (all entries where the window is None), contiguous birth
    ids from near_start on; far holds what left it and was kept. fold replaces the usual move from
    near to far (RazorAttention's running mean).
    """

    placement: Placement
    heads: Tensor | None = None
    selector: Selector | None = None
    fold: Fold | None = None
    near: Segment = field(default_factory=Segment)
    far: Segment = field(default_factory=Segment)
    near_start: int = 0

    @property
    def slack(self) -> int:
        window = self.placement.window
        return 1 if window is None else slack_of(window, self.selector is not None)

    @property
    def body(self) -> Segment:
        """The segment that retention prunes and codecs encode: far beyond a window, else near."""
        return self.near if self.placement.window is None else self.far

    def nbytes(self) -> int:
        folded = 0 if self.fold is None else self.fold.nbytes()
        return self.near.nbytes() + self.far.nbytes() + folded

    def kept(self) -> int:
        """Entries held per key head."""
        return len(self.near) + len(self.far)

    def near_at(self, length: int) -> int:
        """Near entries there are once `length` tokens are committed and nothing was deleted."""
        return length if self.placement.window is None else length - self._settled(length)

    def keep(self, ids: Tensor, room: int = 0) -> None:
        """Keeps only the entries ids of `body`: int64 `[n]` or `[heads, n]`, ascending."""
        self.body.keep(ids, room)

    # Reading: the parts a block of queries sees.

    def parts(
        self, frame: Frame, rows: slice, own: Part | None, own_past: Part | None
    ) -> list[Part]:
        """Parts for the queries `rows` of the frame; own and own_past are the new tokens' parts."""
        query = frame.near_query[:, rows]
        found = self._far_parts(frame, rows)
        found += self._near_parts(frame, rows, query)
        found += [part for part in (own_past, own) if part is not None]
        return found

    def _near_parts(self, frame: Frame, rows: slice, query: Tensor) -> list[Part]:
        placement = self.placement
        if placement.compact or frame.raw_near:
            entries = self.near.read()
            if entries is None:
                return []
            key = frame.rotate_read(entries, compact=placement.compact)
            blocks = [Entries(key, entries.value, entries.index, entries.log_weight)]
        else:
            blocks = self.near.blocks()
            frame.note_transient(blocks[: len(self.near.closed)])
        if placement.window is None or placement.anchored or not blocks:
            causal = frame.staged and frame.block.count > 1
            return [Part(query, b.key, b.value, None, causal, b.log_weight) for b in blocks]
        (block,) = blocks
        first, last = frame.span(rows)
        start = min(max(0, last - placement.window + 1 - self.near_start), len(block))
        parts = [_part(query, block.slice(start, len(block)))]
        band = min(max(0, first - placement.window + 1 - self.near_start), len(block))
        if band < start:
            ids = torch.arange(band, start, device=query.device) + self.near_start
            mask = ids[None] > (frame.index[rows] - placement.window)[:, None]
            parts.append(_part(query, block.slice(band, start), mask))
        return parts

    def _far_parts(self, frame: Frame, rows: slice) -> list[Part]:
        found: list[Part] = []
        if len(self.far):
            found = self._chosen(frame, rows)
        placement = self.placement
        if placement.window is not None and placement.keeps_far and not placement.anchored:
            found += self._leaving(frame, rows)
        return found

    def _chosen(self, frame: Frame, rows: slice) -> list[Part]:
        choice = None
        if self.selector is not None and frame.selects(self.selector):
            index, span = frame.index[rows], frame.span(rows)
            queries = Queries(
                frame.raw_query[:, rows], frame.far_query[:, rows], index, len(self.near),
                frame.decoding, span, self.near_start, self.placement.far_query(index),
                span[1] + 1 >= frame.block.length, frame.rotate_at,
            )  # fmt: skip
            choice = self.selector.plan(queries, self.far)
        query = frame.far_query[:, rows]
        if choice is None:
            blocks = self.far.blocks()
            # What is encoded or elsewhere was copied for this.
            frame.note_transient(blocks[: 1 if self.far.offloaded else len(self.far.closed)])
            return [
                Part(query, frame.read_far(b, self.placement), b.value, log_weight=b.log_weight)
                for b in blocks
            ]
        entries = take_by_query_head(self.far, choice.ids, query.shape[0])
        frame.note_transient([entries])
        if choice.key_positions is not None:
            # Keys that were stored rotated and turned back carry their amplitude already.
            key = frame.rotate_at(entries.key, choice.key_positions, amplitude=frame.raw_near)
            query = frame.rotate_at(frame.raw_query[:, rows], choice.query_positions)
        else:
            key = frame.read_far(entries, self.placement)
        return [Part(query, key, entries.value, choice.mask, log_weight=entries.log_weight)]

    def _leaving(self, frame: Frame, rows: slice) -> list[Part]:
        """Near entries that some of these queries already reach as far ones."""
        assert self.placement.window is not None
        first, last = frame.span(rows)
        stop = min(len(self.near), last - self.placement.window + 1 - self.near_start)
        if stop <= 0:
            return []
        entries = frame.leaving(self, stop)
        if entries is None:
            return []
        if self.placement.reads_far is not None:
            ids = self.placement.reads_far(entries.index[0].long()).nonzero()[:, 0]
            if not len(ids):
                return []
            entries = entries.take(ids)
        query = frame.far_query[:, rows]
        mask = None
        if last != first:
            ids = entries.index[0].long()
            mask = ids[None] <= (frame.index[rows] - self.placement.window)[:, None]
        return [_part(query, entries, mask)]

    def none_leave(self, block: Block, count: int) -> bool:
        """Whether of the oldest `count` near entries, beyond the window, none is kept as far."""
        keep, tail = self.placement.keep_far, self.near.tail
        if keep is None or tail is None:
            return False
        key = (id(self.placement), self.near_start, count)
        if key not in block.kept:
            block.kept[key] = keep(tail.index[0, :count].long()).nonzero()[:, 0]
        return not len(block.kept[key])

    # Writing.

    def _settled(self, upto: int) -> int:
        """Where the near entries start once `upto` tokens are committed.

        A multiple of the slack, whatever the chunks were, so that block-wise decisions do not
        depend on how the text was fed.
        """
        assert self.placement.window is not None
        return max(0, (upto - self.placement.window + 1) // self.slack * self.slack)

    def room(self, length: int) -> int | None:
        """Tokens from `length` on before near entries move again, or before a selection makes a
        plan to be used again; None where neither happens."""
        if self.placement.window is None:
            return None
        left = self._settled(length) + self.slack + self.placement.window - 1 - length
        shared = None if self.selector is None else self.selector.room(length, self.near_start)
        return left if shared is None else min(left, shared)

    def settle(self, frame: Frame, upto: int) -> None:
        """Moves what no query from index `upto` on reaches as near; keeps or drops it as far."""
        if self.placement.window is None:
            return
        target = self._settled(upto)
        count = min(target - self.near_start, len(self.near))
        if count <= 0:
            return
        tail = self.near.tail
        assert tail is not None
        leaving = tail.slice(0, count)
        if self.fold is not None:
            self.fold(self, leaving)
        elif self.placement.keeps_far:
            self._move(frame, leaving)
        rest = len(self.near) - count
        # Room up to the next move, and no more: what is held is what the window promises.
        size = self.placement.window + self.slack
        if count > 4 * self.slack or self.near.capacity > size:
            self.near.replace(tail.slice(count, count + rest), max(1, size - rest))
        else:
            self.near.drop_front(count)
        self.near_start += count

    def offload(self) -> None:
        """Puts the far segment where the placement wants it, before it holds anything."""
        where = self.placement.offload
        if where is None or self.selector is None or isinstance(self.far, OffloadedSegment):
            return
        self.far = OffloadedSegment(where)

    def _move(self, frame: Frame, leaving: Entries) -> None:
        keep = self.placement.keep_far
        if keep is not None:
            ids = keep(leaving.index[0].long()).nonzero()[:, 0]
            if not len(ids):
                return
            leaving = leaving.take(ids)
        self.offload()
        stat = leaving.stat
        leaving = frame.restamp(leaving, self.placement)
        wants = self.selector is not None and self.selector.wants_stat
        kept = Entries(leaving.key, leaving.value, leaving.index, leaving.log_weight)
        self.far.append(kept)
        if self.selector is not None:
            self.selector.extend(
                Entries(kept.key, kept.value, kept.index, kept.log_weight, stat if wants else None),
                self.far,
            )


def _part(query: Tensor, entries: Entries, mask: Tensor | None = None) -> Part:
    return Part(query, entries.key, entries.value, mask, log_weight=entries.log_weight)


def take_by_query_head(segment: Segment, ids: Tensor, heads: int) -> Entries:
    """Entries ids `[m]`, `[kv_heads, m]` or `[heads, m]`; the last gives one key head a query
    head."""
    if ids.dim() == 1 or ids.shape[0] == 1:
        return segment.take(ids.reshape(-1))
    key_heads = segment.key_heads
    if ids.shape[0] == key_heads and key_heads != heads:
        return segment.take(ids)
    groups = heads // key_heads
    found = segment.take(ids.reshape(key_heads, -1))

    def spread(t: Tensor) -> Tensor:
        return t.reshape(heads, ids.shape[1], *t.shape[2:])

    weight = None if found.log_weight is None else spread(found.log_weight)
    index = found.index.expand(key_heads, -1)
    assert groups * key_heads == heads
    return Entries(spread(found.key), spread(found.value), spread(index), weight)


__all__ = ["Choice", "Group", "take_by_query_head"]
