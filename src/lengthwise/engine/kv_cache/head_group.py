"""Key heads of one layer that share a policy: what they keep, and the parts they give to attention.

Most layers have one group of all heads. RazorAttention splits a layer into heads that keep
everything and heads that keep little; each group then has stores of its own, so ragged heads are
really stored ragged.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import AnyPart, Part, Stored
from lengthwise.engine.kv_cache.contexts import Contexts
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.offload import OffloadedKVStore
from lengthwise.engine.kv_cache.placement import Placement, slack_of
from lengthwise.engine.kv_cache.reading import read_chosen, read_encoded, take_by_query_head
from lengthwise.engine.kv_cache.selection import PromptReader, Queries, RawSelector, Selector
from lengthwise.engine.kv_cache.step_metadata import LayerInputs, StepMetadata


class OnEvict(Protocol):
    """What becomes of near entries that leave the window, where that is not a move to far.

    It is called with the group and with the entries that are leaving it.
    """

    def __call__(self, group: HeadGroup, leaving: KVEntries) -> None: ...

    def nbytes(self) -> int:
        """Bytes of what it holds itself."""
        ...


@dataclass
class HeadGroup:
    """Key heads of one layer that share a policy, and what they keep.

    Attributes:
        placement: where tokens stand for these heads.
        heads: key heads int64 `[h]` of the layer, or None for all of them.
        selector: chooses which far entries are read, where there is a selection.
        on_evict: replaces the usual move from near to far (RazorAttention's running mean).
        near: entries inside the window, or all entries where the window is None. Their birth ids
            are contiguous.
        far: entries that left the window and were kept.
        near_start: the first birth id of near.
        contexts: documents that have stores of their own, where there are some.
    """

    placement: Placement
    heads: Tensor | None = None
    selector: Selector | None = None
    on_evict: OnEvict | None = None
    near: KVStore = field(default_factory=KVStore)
    far: KVStore = field(default_factory=KVStore)
    near_start: int = 0
    contexts: Contexts | None = None

    @cached_property
    def head_numbers(self) -> list[int]:
        """`heads` as numbers, which are asked of the device once."""
        return [] if self.heads is None else [int(head) for head in self.heads.tolist()]

    @cached_property
    def reader(self) -> PromptReader | None:
        """The selector, where it reads prompts by itself; asked of it once."""
        return self.selector if isinstance(self.selector, PromptReader) else None

    @property
    def slack(self) -> int:
        window = self.placement.window
        return 1 if window is None else slack_of(window, self.selector is not None)

    @property
    def compressible(self) -> KVStore:
        """The store that retention prunes and codecs encode: far beyond a window, else near."""
        return self.near if self.placement.window is None else self.far

    def nbytes(self) -> int:
        index = [] if self.selector is None else self.selector.tensors()
        held = sum(t.nbytes for t in index if t is not None)
        more = [each for each in (self.on_evict, self.contexts) if each is not None]
        return sum(each.nbytes() for each in (self.near, self.far, *more)) + held

    def kept(self) -> int:
        """Entries of a key head."""
        return len(self.near) + len(self.far) + len(self.contexts or ())

    def encodable(self, prompt_ends: bool) -> list[KVStore]:
        """The stores that a codec encodes; documents with stores of their own, once.

        Args:
            prompt_ends: whether it is then that this is asked.
        """
        contexts = self.contexts if prompt_ends else None
        return [*([] if contexts is None else contexts.own()), self.compressible]

    def tighten(self) -> int:
        """Gives back the spare room of a near window; returns what the window holds, or 0.
        Spare room depends on the chunks that were read, and what a budget pays for must not.
        """
        if self.placement.window is None:
            return 0
        self.near.replace(self.near.tail)
        return len(self.near)

    def near_at(self, length: int) -> int:
        """How many near entries there are, given that nothing was deleted.

        Args:
            length: tokens that are committed.
        """
        return length if self.placement.window is None else length - self._window_start(length)

    def keep(self, ids: Tensor, room: int = 0) -> None:
        """Keeps only some entries of `compressible`.

        Args:
            ids: which ones, int64 `[n]` or `[heads, n]`, ascending.
            room: how many more entries to make room for.

        Raises:
            LengthwiseError: where entries are encoded that cannot be deleted one by one.
        """
        self.compressible.keep(ids, room)

    # Reading: the parts a block of queries sees.

    def parts(
        self, inputs: LayerInputs, rows: slice, own: Part | None, own_past: Part | None
    ) -> list[AnyPart]:
        """Parts for some of the queries of a layer.

        Args:
            inputs: the new tokens in this layer.
            rows: which of their queries.
            own: a part of the new tokens' own, if there is one.
            own_past: another part of the new tokens' own, if there is one.

        Returns:
            Parts of far entries, then of near ones, then `own_past` and `own`, then documents that
                were read apart.
        """
        query = inputs.near_query[:, rows]
        found: list[AnyPart] = [*self._far_parts(inputs, rows)]
        found += self._near_parts(inputs, rows, query)
        found += [part for part in (own_past, own) if part is not None]
        if self.contexts is not None:
            found += self.contexts.parts(inputs, rows)
        return found

    def _near_parts(self, inputs: LayerInputs, rows: slice, query: Tensor) -> list[Part | Stored]:
        placement = self.placement
        found: list[Part | Stored] = []
        if placement.compact or inputs.raw_near:
            entries = self.near.read()
            if entries is None:
                return []
            key = inputs.rotate_read(entries, compact=placement.compact)
            blocks = [KVEntries(key, entries.value, entries.index, entries.log_weight)]
        else:
            found, blocks = read_encoded(self.near, query)
            inputs.note_transient(blocks[: 0 if found else len(self.near.closed)])
        if placement.window is None or placement.anchored or not blocks:
            plain = [Part(query, b.key, b.value, log_weight=b.log_weight) for b in blocks]
            if inputs.staged and inputs.metadata.count > 1:
                # New entries are the last of the last block.
                plain[-1] = replace(plain[-1], causal=True)
            return [*found, *plain]
        (block,) = blocks
        first, last = inputs.span(rows)
        start = min(max(0, last - placement.window + 1 - self.near_start), len(block))
        parts: list[Part | Stored] = [_part(query, block.slice(start, len(block)))]
        band = min(max(0, first - placement.window + 1 - self.near_start), len(block))
        if band < start:
            ids = torch.arange(band, start, device=query.device) + self.near_start
            mask = ids[None] > (inputs.index[rows] - placement.window)[:, None]
            parts.append(_part(query, block.slice(band, start), mask))
        return parts

    def _far_parts(self, inputs: LayerInputs, rows: slice) -> list[Part | Stored]:
        found: list[Part | Stored] = []
        if len(self.far):
            found = self._chosen(inputs, rows)
        placement = self.placement
        if placement.window is not None and placement.keeps_far and not placement.anchored:
            found += self._leaving(inputs, rows)
        return found

    def _chosen(self, inputs: LayerInputs, rows: slice) -> list[Part | Stored]:
        choice = None
        if self.selector is not None and inputs.selects(self.selector):
            index, span = inputs.index[rows], inputs.span(rows)
            queries = Queries(
                inputs.raw_query[:, rows], inputs.far_query[:, rows], index, len(self.near),
                inputs.decoding, span, self.near_start, self.placement.far_query(index),
                span[1] + 1 >= inputs.metadata.length, inputs.rotate_at,
                inputs.metadata.notes_of(rows.start),
            )  # fmt: skip
            choice = self.selector.plan(queries, self.far)
            inputs.note_taken(self.far)
        query = inputs.far_query[:, rows]
        if choice is None:
            found: list[Part | Stored] = []
            if inputs.turns_far(self.placement):
                blocks = self.far.blocks()
            else:
                found, blocks = read_encoded(self.far, query)
            # What is encoded or elsewhere was copied for this.
            copied = 1 if self.far.offloaded else len(self.far.closed)
            inputs.note_transient(blocks[: 0 if found else copied])
            for b in blocks:
                key = inputs.read_far(b, self.placement)
                found.append(Part(query, key, b.value, log_weight=b.log_weight))
            return found
        turned = choice.key_positions is not None or inputs.turns_far(self.placement)
        if not turned and (chosen := read_chosen(self.far, query, choice)) is not None:
            if isinstance(chosen, Part):
                inputs.note_copied(chosen.key, chosen.value)
            return [chosen]
        entries = take_by_query_head(self.far, choice.ids, query.shape[0])
        inputs.note_transient([entries])
        inputs.note_taken(self.far)
        if choice.key_positions is not None:
            # Keys that were stored rotated and turned back carry their amplitude already.
            key = inputs.rotate_at(entries.key, choice.key_positions, amplitude=inputs.raw_near)
            query = inputs.rotate_at(inputs.raw_query[:, rows], choice.query_positions)
        else:
            key = inputs.read_far(entries, self.placement)
        return [Part(query, key, entries.value, choice.mask, log_weight=entries.log_weight)]

    def _leaving(self, inputs: LayerInputs, rows: slice) -> list[Part]:
        """Near entries that some of these queries already reach as far ones."""
        assert self.placement.window is not None
        first, last = inputs.span(rows)
        stop = min(len(self.near), last - self.placement.window + 1 - self.near_start)
        if stop <= 0:
            return []
        entries = self._leaving_entries(inputs, stop)
        if entries is None:
            return []
        if self.placement.reads_far is not None:
            ids = self.placement.reads_far(entries.index[0].long()).nonzero()[:, 0]
            if not len(ids):
                return []
            entries = entries.take(ids)
        query = inputs.far_query[:, rows]
        mask = None
        if last != first:
            ids = entries.index[0].long()
            mask = ids[None] <= (inputs.index[rows] - self.placement.window)[:, None]
        return [_part(query, entries, mask)]

    def _leaving_entries(self, inputs: LayerInputs, stop: int) -> KVEntries | None:
        """The oldest `stop` near entries that survive the window, as far keys; None if none do."""
        tail = self.near.tail
        assert tail is not None
        if self.placement.keep_far is None:
            entries = tail.slice(0, stop)
        else:
            ids = self._kept_far(inputs.metadata, stop)
            if not len(ids):
                return None
            entries = tail.take(ids)
        far = inputs.as_far(entries, self.placement, (self.near_start, stop))
        if not inputs.turns_far(self.placement):
            return far
        key = inputs.rotate_by_index(far, self.placement.far_key)
        return KVEntries(key, far.value, far.index, far.log_weight)

    def _kept_far(self, metadata: StepMetadata, count: int) -> Tensor:
        """Which of the oldest `count` near entries are kept as far ones, found once a forward."""
        keep, tail = self.placement.keep_far, self.near.tail
        assert keep is not None and tail is not None
        key = (id(self.placement), self.near_start, count)
        if key not in metadata.kept:
            metadata.kept[key] = keep(tail.index[0, :count].long()).nonzero()[:, 0]
        return metadata.kept[key]

    def none_leave(self, metadata: StepMetadata, count: int) -> bool:
        """Whether of the oldest `count` near entries, beyond the window, none is kept as far.

        Args:
            metadata: of the current step, which remembers the answer.
            count: how many near entries leave the window.
        """
        if self.placement.keep_far is None or self.near.tail is None:
            return False
        return not len(self._kept_far(metadata, count))

    # Writing.

    def _window_start(self, upto: int) -> int:
        """Where the near entries start once `upto` tokens are committed.

        A multiple of the slack, whatever the chunks were, so that block-wise decisions do not
        depend on how the text was fed.
        """
        assert self.placement.window is not None
        return max(0, (upto - self.placement.window + 1) // self.slack * self.slack)

    def tokens_until_change(self, length: int) -> int | None:
        """How far off the next change of what is read is.

        A change is that near entries move again, or that a selection makes a plan to be used again.

        Args:
            length: tokens that are committed.

        Returns:
            Tokens from `length` on before the change; None where neither happens.
        """
        if self.placement.window is None:
            return None
        left = self._window_start(length) + self.slack + self.placement.window - 1 - length
        shared = (
            None
            if self.selector is None
            else self.selector.tokens_until_change(length, self.near_start)
        )
        return left if shared is None else min(left, shared)

    def slide_window(self, inputs: LayerInputs, upto: int) -> None:
        """Moves what no later query reaches as near; keeps or drops it as far.

        Args:
            inputs: the new tokens in this layer.
            upto: birth id from which on queries are still to come.
        """
        if self.placement.window is None:
            return
        target = self._window_start(upto)
        count = min(target - self.near_start, len(self.near))
        if count <= 0:
            return
        tail = self.near.tail
        assert tail is not None
        leaving = tail.slice(0, count)
        if self.on_evict is not None:
            self.on_evict(self, leaving)
        elif self.placement.keeps_far:
            self._move(inputs, leaving)
        rest = len(self.near) - count
        # Room up to the next move, and no more: what is held is what the window promises.
        size = self.placement.window + self.slack
        if count > 4 * self.slack or self.near.capacity > size:
            self.near.replace(tail.slice(count, count + rest), max(1, size - rest))
        else:
            self.near.drop_front(count)
        self.near_start += count

    def begin_far(self, entries: KVEntries, expected: int) -> None:
        """Makes room at once for what a selection will find: many small moves would copy it often.

        Args:
            entries: some of the layer, for their shapes.
            expected: tokens there will be; 0 where that is not known.
        """
        if self.selector is not None and expected and not self.far.capacity:
            self.offload()
            self.far.reserve(entries, max(0, expected - (self.placement.window or 0)))

    def offload(self) -> None:
        """Puts the far store where the placement wants it, before it holds anything."""
        where = self.placement.offload
        if where and self.selector is not None and not isinstance(self.far, OffloadedKVStore):
            self.far = OffloadedKVStore(where)

    def _move(self, inputs: LayerInputs, leaving: KVEntries) -> None:
        keep = self.placement.keep_far
        if keep is not None:
            ids = keep(leaving.index[0].long()).nonzero()[:, 0]
            if not len(ids):
                return
            leaving = leaving.take(ids)
        self.offload()
        attention_mass, near = leaving.attention_mass, leaving
        leaving = inputs.as_far(leaving, self.placement)
        wants = self.selector is not None and self.selector.wants_attention_mass
        kept = KVEntries(leaving.key, leaving.value, leaving.index, leaving.log_weight)
        self.far.append(kept)
        if isinstance(self.selector, RawSelector):
            self.selector.extend_raw(inputs.as_far(near, Placement(far_raw=True)).key)
        if self.selector is not None:
            mass = attention_mass if wants else None
            self.selector.extend(replace(kept, attention_mass=mass), self.far)


def _part(query: Tensor, entries: KVEntries, mask: Tensor | None = None) -> Part:
    return Part(query, entries.key, entries.value, mask, log_weight=entries.log_weight)


__all__ = ["HeadGroup"]
