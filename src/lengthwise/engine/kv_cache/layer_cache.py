"""One layer of one sequence: attention over what it keeps, and what is noted on the way.

A forward brings new queries, keys and values; they are attended to at once and stay pending until
the sequence commits the tokens that were accepted.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import (
    SingleSoftmax,
    attend,
)
from lengthwise.engine.attention.scores import lse_at
from lengthwise.engine.kernels.part import DistanceBias
from lengthwise.engine.kernels.products import SCORE_BLOCK
from lengthwise.engine.kv_cache.cache_plan import CachePlan
from lengthwise.engine.kv_cache.codec import Codec
from lengthwise.engine.kv_cache.entries import KVEntries, concatenate
from lengthwise.engine.kv_cache.groups import attend_groups
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.new_parts import (
    biased_parts,
    own_parts,
    piece,
    pieces,
    rows_together,
)
from lengthwise.engine.kv_cache.observed import attention_mass
from lengthwise.engine.kv_cache.order_free import read_together
from lengthwise.engine.kv_cache.placement import same
from lengthwise.engine.kv_cache.query_moments import QueryMoments
from lengthwise.engine.kv_cache.selection import PromptReader
from lengthwise.engine.kv_cache.step_metadata import LayerInputs, StepMetadata
from lengthwise.engine.kv_cache.stepping import Observation, Stepping
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts


class LayerCache(Stepping):
    """groups: the layer's key heads, usually all in one. codec: encodes them, where there is one.

    rule: rotary frequencies in place of the model's. query_scale: by what queries grow with their
    position. pending: entries of the forward under way, unless they were put in place at once;
    placed: how many were. documents: tokens of each of the documents that the forward under way
    brings, where they see each other. bias: what distance adds to a logit, where that is anything.
    """

    def __init__(
        self,
        model: AdaptedModel,
        facts: LayerFacts,
        groups: list[HeadGroup],
        plan: CachePlan,
        observation: Observation,
    ) -> None:
        self.model = model
        self.facts = facts
        self.groups = groups
        # A layer with a window of its own keeps its own frequencies: its distances stay trained.
        # Some models change theirs with every token, which is a rule as much as ours are.
        own = model.rope.own_rule(facts.rotary_type) if model.rope is not None else None
        self.rule = own if plan.rule is None or facts.window is not None else plan.rule
        self.query_scale = plan.query_scale.of(facts) if plan.query_scale else None
        self.observation = observation
        self.codec: Codec | None = None
        self.pending: KVEntries | None = None
        self.placed = 0
        self.documents: tuple[int, ...] = ()
        self.bias: DistanceBias | None = None
        self._single = SingleSoftmax()
        self._observed: list[tuple[LayerInputs, Tensor]] = []
        self._window: list[Tensor] = []
        self._fresh: Tensor | None = None
        self.moments: QueryMoments | None = None
        self._moments_before: QueryMoments | None = None

    @property
    def own_window(self) -> bool:
        """Whether the layer keeps a sliding window of the model's own, which plans leave alone."""
        return self.facts.window is not None

    def nbytes(self) -> int:
        noted = 0 if self.moments is None else self.moments.nbytes()
        return sum(group.nbytes() for group in self.groups) + noted

    def query_heads(self, heads: Tensor) -> Tensor:
        """The query heads int64 `[h * group size]` that read the key heads `[h]`."""
        each = self.facts.num_heads // self.facts.num_kv_heads
        return (heads[:, None] * each + torch.arange(each, device=heads.device)).flatten()

    # Attending.

    def attend(self, query: Tensor, key: Tensor, value: Tensor, metadata: StepMetadata) -> Tensor:
        """Attention of the new tokens of a step over what is kept and over themselves.

        Un-rotated query `[heads, n, head_dim]`, key and value `[kv_heads, n, ...]` ->
        `[heads, n, value_dim]`. Leaves the new entries pending, or in place for one token.
        """
        count = query.shape[1]
        if self.query_scale is not None:
            query = self.query_scale(query, metadata.index)
        if self.documents:
            inputs = self._inputs(query, key, value, metadata)
            return read_together(self.groups[0], inputs, key, self.documents)
        if self.steps_plainly(count):
            return self._step(query, key, value, metadata)
        if count == 1 and self.steps_in_window(metadata):
            return self._step_in_window(query, key, value, metadata)
        self.note_moments(query, metadata.start)
        inputs = self._inputs(query, key, value, metadata)
        self.note_queries(inputs.near_query)
        stored = key if self.groups[0].placement.compact or inputs.raw_near else inputs.near_key
        self.pending = KVEntries(stored, value, metadata.index[None].int())
        if len(self.groups) == 1:
            group = self.groups[0]
            reader = group.reader
            if group.selector is not None and reader is None and metadata.count > 1:
                return self._attend_pieces(group, inputs, self.pending)
            inputs.staged = self._stage(group, inputs)
            found = self._read_prompt(reader, group, inputs) if reader is not None else None
            return self._attend_group(group, inputs) if found is None else found
        watched = bool(self._stride(inputs))
        return attend_groups(self.groups, inputs, self.query_heads, self._attend_group, watched)

    def _attend_pieces(self, group: HeadGroup, inputs: LayerInputs, entries: KVEntries) -> Tensor:
        """A text as its selection plans for it: each piece finds, and leaves, what it would if it
        were read by itself. Only the last one's entries stay pending.

        An anchored window is measured at the last query of a piece, as decoding measures it.
        """
        metadata, outs = inputs.metadata, []
        assert group.selector is not None
        ahead = group.placement.anchored and metadata.ancestors is None
        ahead = ahead and group.selector.query_block is not None
        cut = pieces(group, metadata)
        if self.codec is None:
            group.begin_far(entries, self.observation.expected)
        for rows in cut:
            part = inputs if len(cut) == 1 else piece(inputs, rows)
            if ahead:
                self.slide_window(part.metadata.last, metadata.length, metadata.offset)
            self.pending = entries.slice(rows.start, rows.stop)
            outs.append(self._attend_group(group, part))
            metadata.transient = max(metadata.transient, part.metadata.transient)
            if rows.stop < metadata.count:
                self.commit(None)
                self.slide_window(part.metadata.last + 1, metadata.length, metadata.offset)
        return outs[0] if len(outs) == 1 else torch.cat(outs, 1)

    def steps_plainly(self, count: int) -> bool:
        """Whether one new token, or a small tree, sees every entry alike, stored plain, with room
        for its own, and nobody is watching."""
        group = self.groups[0]
        placement = group.placement
        scores = count * self.facts.num_heads * len(group.near)
        return (
            (count == 1 or (group.near.room >= count and scores <= SCORE_BLOCK))
            and len(self.groups) == 1
            and not self.observation.reading
            and not self.observation.stride
            and not self.observation.following
            and placement.window is None
            and not placement.compact
            and group.near.is_plain
            and group.contexts is None
            and self.bias is None
            and (self.rule is None or not self.rule.dynamic)
            and self.facts.softcap is None
            and self.facts.sinks is None
        )

    def _step(self, query: Tensor, key: Tensor, value: Tensor, metadata: StepMetadata) -> Tensor:
        """The general path with everything left out that a plain step does not need."""
        facts, count = self.facts, query.shape[1]
        if facts.layout is not None:
            assert metadata.angles is not None
            angles = metadata.angles.at(facts.layout, facts.rotary_type, self.rule)
            query, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        folded = query.reshape(facts.num_kv_heads, -1, facts.head_dim)
        near = self.groups[0].near
        if count == 1 and not near.shared:
            self.placed = 1
            out = self._single(folded, *near.push(key, value, metadata.start), facts.scaling)
        else:
            tail = self.place(key, value, metadata)
            out = self.step_rotated(folded, tail, metadata.hidden if count > 1 else None)
        return out.reshape(facts.num_heads, count, -1)

    def _inputs(
        self, query: Tensor, key: Tensor, value: Tensor, metadata: StepMetadata
    ) -> LayerInputs:
        model, facts, rule = self.model, self.facts, self.rule
        placement = self.groups[0].placement
        if facts.layout is None:
            return LayerInputs(
                metadata, model, facts, rule, placement, query, query, query, key, value
            )
        if placement.compact:
            inputs = LayerInputs(
                metadata, model, facts, rule, placement, query, query, query, key, value
            )
            ranks = metadata.index - metadata.start + self.groups[0].kept()
            near = inputs.rotate_at(query, ranks)
            return replace(
                inputs, near_query=near, far_query=near, near_key=inputs.rotate_at(key, ranks)
            )
        angles = self._angles(metadata)
        near = far = facts.layout.rotate(query, angles)
        if placement.far_query is not same:
            there = self._angles(metadata, placement.far_query)
            far = facts.layout.rotate(query, there)
        near_key = facts.layout.rotate(key, angles)
        return LayerInputs(
            metadata, model, facts, rule, placement, query, near, far, near_key, value
        )

    def _stage(self, group: HeadGroup, inputs: LayerInputs) -> bool:
        """Puts new entries in place before attending where they need no part of their own: a single
        one, which its query sees, or a piece of a prompt that simply follows what is there."""
        placement = group.placement
        if inputs.raw_near or placement.compact:
            return False
        follows = (
            inputs.metadata.prompt
            and placement.window is None
            and (group.selector is None or group.reader is not None)
            and not self.observation.stride
            and not group.near.closed
        )
        if inputs.metadata.count > 1 and not follows:
            return False
        assert self.pending is not None
        entry = self.pending
        if self.observation.stride:
            entry = replace(
                entry, attention_mass=torch.zeros(*entry.key.shape[:2], device=entry.key.device)
            )
        self._append(group, entry)
        self.placed = len(entry)
        self.pending = None
        return True

    def _read_prompt(
        self, reader: PromptReader, group: HeadGroup, inputs: LayerInputs
    ) -> Tensor | None:
        """What a selection finds for a piece of a prompt, whose entries are in place; None where
        everything is to be read."""
        if not inputs.staged or inputs.metadata.count == 1:
            return None
        held = concatenate(group.near.blocks())
        found = reader.read_prompt(inputs.near_query, held.key, held.value)
        inputs.metadata.transient = max(inputs.metadata.transient, reader.copied)
        return found

    def _append(self, group: HeadGroup, entries: KVEntries) -> None:
        if group.placement.window is None and not group.near.closed and not group.near.capacity:
            left = self.observation.expected - len(group.near)
            group.near.reserve(entries, max(left, len(entries)))
        group.near.append(entries)

    def _attend_group(self, group: HeadGroup, inputs: LayerInputs) -> Tensor:
        facts = self.facts
        sinks = (
            facts.sinks
            if inputs.heads is None or facts.sinks is None
            else facts.sinks[inputs.heads]
        )
        stride = self._stride(inputs)
        outs, lses = [], []
        for rows in rows_together(group, inputs):
            past, mine = (None, None) if inputs.staged else own_parts(group, inputs, rows)
            parts = (
                group.parts(inputs, rows, mine, past)
                if self.bias is None
                else biased_parts(group, inputs, mine, self.bias)
            )
            out, lse = attend(parts, facts.scaling, facts.softcap, sinks, need_lse=stride == 1)
            if stride > 1:
                # The output needs no LSE, which is dear; the few observed queries are done again.
                seen = slice(-rows.start % stride, None, stride)
                lse = lse_at(parts, seen, facts.scaling, facts.softcap, sinks)
            outs.append(out)
            lses.append(lse)
        if stride:
            self._observed.append((inputs, torch.cat([x for x in lses if x is not None], 1)))
        return outs[0] if len(outs) == 1 else torch.cat(outs, 1)

    def _stride(self, inputs: LayerInputs) -> int:
        """Every how many-th query of a step is observed; 0 for none."""
        return (
            self.observation.stride
            if self.observation.reading and inputs.metadata.count > 1
            else min(1, self.observation.stride)
        )

    # Noting.

    def note_queries(self, query: Tensor) -> None:
        """Has rotated queries `[heads, n, head_dim]` remembered, where somebody asks for them, once
        they are committed."""
        if self.observation.remember and self.observation.reading:
            self._fresh = query[:, -self.observation.remember :].clone()
        elif self.observation.following:
            self._fresh = query

    def _remember(self, query: Tensor) -> None:
        wanted = self.observation.remember
        self._window.append(query[:, -wanted:].clone())
        while sum(q.shape[1] for q in self._window[1:]) >= wanted:
            self._window.pop(0)

    def last_queries(self) -> Tensor | None:
        """The prompt's last queries as near keys see them, `[heads, remembered, head_dim]`; while
        decoding, the newest ones, where somebody follows them."""
        return torch.cat(self._window, 1)[:, -self.observation.remember :] if self._window else None

    def note_moments(self, query: Tensor, start: int) -> None:
        """Adds un-rotated queries `[heads, n, head_dim]` of a prompt to their mean and covariance,
        where somebody asks for these."""
        skip = self.observation.moments
        if skip is None or not self.observation.reading or self.own_window:
            return
        self._moments_before = self.moments or QueryMoments(skip)
        self.moments = replace(self._moments_before)
        self.moments.add(query, start)

    def forget_queries(self) -> None:
        self._window.clear()
        self.moments = self._moments_before = None

    def commit(self, ids: Tensor | None, first: bool = False) -> None:
        """Pending entries, or those of the accepted nodes ids, become near entries. first: whether
        ids are the first nodes in their order."""
        if ids is not None:
            ids = ids.to(self.facts.device)
        if ids is not None and self.pending is not None:
            self.pending = self.pending.take(ids)
        if self._fresh is not None:
            self._remember(self._fresh if ids is None else self._fresh[:, ids])
        self._fresh = self._moments_before = None
        if self.observation.stride and not self.own_window:
            self._observe(ids)
        self._observed.clear()
        if self.placed > 1 and ids is not None:
            self.groups[0].near.retract(self.placed, len(ids) if first else ids)
        self.placed = 0
        own, self.pending = self.pending, None
        if own is None:
            return
        for group in self.groups:
            entries = own if group.heads is None else own.heads(group.heads)
            self._append(group, entries)

    def discard(self) -> None:
        """Forgets the forward under way."""
        if self.placed:
            self.groups[0].near.retract(self.placed)
        if self._moments_before is not None:
            self.moments = self._moments_before
        self.pending, self.placed, self._fresh, self._moments_before = None, 0, None, None
        self._observed.clear()

    def slide_window(self, length: int, prompt: int, offset: int) -> None:
        """Moves what has left a window, now that `length` tokens are committed."""
        for group in self.groups:
            if group.placement.window is not None:
                metadata = StepMetadata(length, torch.empty(0), None, max(prompt, length), offset)
                none = torch.empty(0)
                inputs = LayerInputs(metadata, self.model, self.facts, self.rule, group.placement,
                                     none, none, none, none, none)  # fmt: skip
                group.slide_window(inputs, length)

    def _observe(self, ids: Tensor | None) -> None:
        """Adds the probability that near and new entries received from committed queries."""
        for (inputs, lse), group in zip(self._observed, self.groups, strict=True):
            total = attention_mass(
                group, inputs, lse, ids, self._stride(inputs), self.pending is not None
            )
            held = len(group.near)
            group.near.add_attention_mass(total[:, :held])
            if self.pending is not None:
                self.pending = replace(self.pending, attention_mass=total[:, held:])
