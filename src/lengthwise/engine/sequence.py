"""One sequence under one plan: its tokens and, layer by layer, what is kept of them.

Rows of a batch are separate sequences. The model's linear work is done for all of them at once and
attention for each alone, so a row gets exactly what it would get by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.attend import Part, attend, column_sums, single_softmax
from lengthwise.engine.entries import Entries
from lengthwise.engine.frame import Block, Frame, block_angles
from lengthwise.engine.group import Group
from lengthwise.engine.placement import Placement, same
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.roles import Codec, Moment, Retention
from lengthwise.engine.tree import Tree
from lengthwise.models.adapt import Adapted
from lengthwise.models.probe import LayerFacts


@dataclass
class _Layer:
    """groups of a layer, its codec, the new tokens of the forward under way, and the last queries."""

    groups: list[Group]
    codec: Codec | None = None
    pending: Entries | None = None
    observed: list[tuple[Frame, Tensor]] = field(default_factory=list)
    window: list[Tensor] = field(default_factory=list)


class Sequence:
    """Tokens seen so far and the entries kept of them.

    tokens: committed ids. prompt_length: of those, the prompt's (set by `end_prefill`).
    reading: tokens there will be when the prefill under way is through.
    surprise: -log p of each token given those before it, where somebody asked for it.
    offset: added to every position (relative positions make it invisible).
    """

    def __init__(
        self,
        model: Adapted,
        plan: Plan = FULL,
        expected: int = 0,
        offset: int = 0,
        remember: int = 0,
    ) -> None:
        """expected: tokens the sequence will hold in the end, where known (0: unknown). remember:
        last queries of the prompt to keep at least, for a plan that a fork may adopt."""
        self.model = model
        self.plan = plan
        self.expected = expected
        self._remember_at_least = remember
        self.offset = offset
        self.tokens: list[int] = []
        self.prompt_length: int | None = None
        self.reading = 0
        self.surprise: list[float] = []
        self.peak_bytes = 0
        self._transient = 0
        self.last_logits: Tensor | None = None
        self.layers = [self._layer(index) for index in range(len(model.layers))]
        self._follow(plan)

    def _follow(self, plan: Plan) -> None:
        """Takes on a plan's retention and codecs, and what they ask to be observed."""
        self.plan = plan
        self.retention: Retention | None = plan.retention() if plan.retention else None
        if plan.codec is not None:
            for index, layer in enumerate(self.layers):
                if not self.own_window(index):
                    layer.codec = plan.codec(self.model.layers[index])
        windows = [layer.codec.window for layer in self.layers if layer.codec is not None]
        if self.retention is not None:
            windows.append(self.retention.window)
        self.remembered = max([self._remember_at_least, *windows])
        strides = [
            g.selector.wants_stat for ly in self.layers for g in ly.groups if g.selector is not None
        ]
        if self.retention is not None:
            strides.append(int(self.retention.wants_stat))
        # Every how many-th query of a prompt's chunk is observed, and stands for those skipped.
        self.stat_stride = min((stride for stride in strides if stride), default=0)
        self.wants_stat = self.stat_stride > 0

    def __len__(self) -> int:
        return len(self.tokens)

    def own_window(self, index: int) -> bool:
        """Whether a layer keeps a sliding window of the model's own, which plans leave alone."""
        return self.model.layers[index].window is not None

    def _layer(self, index: int) -> _Layer:
        facts = self.model.layers[index]
        if facts.window is not None:
            return _Layer([Group(Placement(window=facts.window, keeps_far=False))])
        group = Group(self.plan.placement)
        if self.plan.selector is not None:
            group.selector = self.plan.selector(facts)
        return _Layer([group])

    def __deepcopy__(self, memo: dict[int, Any]) -> Sequence:
        memo[id(self.model)] = self.model
        memo[id(self.plan)] = self.plan
        new = object.__new__(type(self))
        memo[id(self)] = new
        for name, value in self.__dict__.items():
            shared = name in ("model", "plan")
            new.__dict__[name] = value if shared else copy.deepcopy(value, memo)
        return new

    def fork(self, plan: Plan | None = None) -> Sequence:
        """An independent copy: what is done to one does not touch the other.

        plan: what the copy does from now on. It must read a prompt exactly as this one's does, that
        is differ in retention, codec and drafting alone, and the prompt must not have ended.
        """
        new = copy.deepcopy(self)
        if plan is not None:
            new._follow(plan)
        return new

    # Bytes.

    def nbytes(self) -> int:
        """KV bytes allocated now, indices and scales included."""
        return sum(group.nbytes() for layer in self.layers for group in layer.groups)

    def note_peak(self, block: Block | None = None) -> None:
        extra = 0 if block is None else block.transient
        self.peak_bytes = max(self.peak_bytes, self.nbytes() + extra)

    @property
    def retention_surprise(self) -> bool:
        """Whether the retention wants -log p of every token."""
        return self.retention is not None and self.retention.wants_surprise

    # Limits.

    def max_block(self) -> int | None:
        """Most tokens one forward may bring: all new tokens must be near each other."""
        windows = [
            g.placement.window
            for layer in self.layers
            for g in layer.groups
            if g.placement.window is not None and g.placement.keeps_far and not g.placement.anchored
        ]
        return min(windows) if windows else None

    def room(self) -> int | None:
        """Tokens that may be committed before the next deletion or encoding, or before a selection gets
        entries that a query within a draft would not find yet; None is any number."""
        found = [] if self.retention is None else [self.retention.room(self)]
        for state in self.layers:
            selecting = [group for group in state.groups if group.selector is not None]
            found += [group.room(len(self.tokens)) for group in selecting]
            if state.codec is not None:
                found += [self._codec_room(state.codec, group) for group in state.groups]
        if self.plan.rule is not None and self.plan.rule.dynamic:
            interval = self.plan.rule.interval
            found.append(interval - len(self.tokens) % interval)
        return min((room for room in found if room is not None), default=None)

    def _codec_room(self, codec: Codec, group: Group) -> int | None:
        entries = codec.room(group.body)
        if entries is None or group.placement.window is None:
            return entries
        # Entries join the far segment a slack at a time, when they leave the window.
        left = -(-(group.near_start + entries) // group.slack) * group.slack
        return max(1, left + group.placement.window - 1 - len(self.tokens))

    # One forward.

    def block(self, count: int, tree: Tree | None = None) -> Block:
        """The next `count` tokens, or the nodes of a tree whose root is the next token."""
        start = len(self.tokens)
        device = self.model.device
        length = max(self.expected_prompt, start + count)
        # Under a selection every node of a draft plans for itself, as decoding would.
        alike = self.plan.selector is None or count == 1
        if tree is None or (alike and tree.is_chain()):
            index = torch.arange(start, start + count, device=device)
            prompt = self.prompt_length is None
            return Block(start, index, None, length, self.offset, prompt=prompt)
        index = torch.tensor(tree.depths, device=device) + start
        return Block(start, index, tree.ancestors().to(device), length, self.offset)

    @property
    def expected_prompt(self) -> int:
        """Tokens of the prompt, those still to be read included where `prefill` knows them."""
        return self.prompt_length or self.reading

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, block: Block) -> Tensor:
        """Attention of one layer: un-rotated query `[heads, n, head_dim]`, key and value
        `[kv_heads, n, ...]` of the block -> `[heads, n, value_dim]`. Keeps key and value pending."""
        state, facts = self.layers[layer], self.model.layers[layer]
        if block.count == 1 and self._steps_plainly(state, facts):
            return self._step(state.groups[0], facts, query, key, value, block)
        frame = self._frame(layer, query, key, value, block)
        if self.remembered and self.prompt_length is None:
            self._remember(state, frame.near_query)
        stored = key if state.groups[0].placement.compact or frame.raw_near else frame.near_key
        own = Entries(stored, value, block.index[None].int())
        if len(state.groups) == 1:
            return self._attend_group(state, state.groups[0], frame, own)
        out = torch.empty(*query.shape[:2], value.shape[-1], dtype=value.dtype, device=value.device)
        state.pending = own
        for group in state.groups:
            assert group.heads is not None
            rows = self._query_heads(layer, group.heads)
            part = Frame(block, self.model, facts, frame.rule, group.placement, query[rows],
                         frame.near_query[rows], frame.far_query[rows], frame.near_key[group.heads],
                         value[group.heads], heads=rows)  # fmt: skip
            out[rows] = self._attend_group(state, group, part, None)
        return out

    def _query_heads(self, layer: int, heads: Tensor) -> Tensor:
        """The query heads int64 `[h * group size]` that read the key heads `[h]`."""
        facts = self.model.layers[layer]
        each = facts.num_heads // facts.num_kv_heads
        return (heads[:, None] * each + torch.arange(each, device=heads.device)).flatten()

    def _steps_plainly(self, state: _Layer, facts: LayerFacts) -> bool:
        """Whether one new token sees every entry alike, stored plain, and nobody is watching."""
        group = state.groups[0]
        placement, tail = group.placement, group.near.tail
        return (
            len(state.groups) == 1
            and self.prompt_length is not None
            and placement.window is None
            and not placement.compact
            and not group.near.closed
            and not self.wants_stat
            and (self.plan.rule is None or not self.plan.rule.dynamic)
            and facts.softcap is None
            and facts.sinks is None
            and tail is not None
            and tail.log_weight is None
        )

    def _step(
        self, group: Group, facts: LayerFacts, query: Tensor, key: Tensor, value: Tensor, block: Block
    ) -> Tensor:
        """The general path with everything left out that one plain token does not need."""
        if facts.pairing is not None:
            angles = block_angles(self.model, facts, block, self.plan.rule, same)
            query, key = facts.pairing.rotate(query, angles), facts.pairing.rotate(key, angles)
        keys, values = group.near.push(key, value, block.start)
        folded = query.reshape(facts.num_kv_heads, -1, facts.head_dim)
        return single_softmax(folded, keys, values, facts.scaling).reshape(facts.num_heads, 1, -1)

    def _frame(self, layer: int, query: Tensor, key: Tensor, value: Tensor, block: Block) -> Frame:
        facts = self.model.layers[layer]
        # A layer with a window of its own keeps its own frequencies: its distances stay trained.
        rule = None if facts.window is not None else self.plan.rule
        placement = self.layers[layer].groups[0].placement
        near_query, near_key, far_query = query, key, query
        if facts.pairing is not None:
            if placement.compact:
                ranks = block.index - block.start + self.layers[layer].groups[0].kept()
                frame = Frame(block, self.model, facts, rule, placement, query, query, query, key, value)
                near_query, near_key = frame.rotate_at(query, ranks), frame.rotate_at(key, ranks)
                far_query = near_query
            else:
                angles = block_angles(self.model, facts, block, rule, same)
                near_query = facts.pairing.rotate(query, angles)
                near_key = facts.pairing.rotate(key, angles)
                far_query = near_query
                if placement.far_query is not same:
                    far = block_angles(self.model, facts, block, rule, placement.far_query)
                    far_query = facts.pairing.rotate(query, far)
        return Frame(
            block, self.model, facts, rule, placement, query, near_query, far_query, near_key, value
        )

    def _attend_group(
        self, state: _Layer, group: Group, frame: Frame, own: Entries | None
    ) -> Tensor:
        """own is None where the layer is ragged: the frame's own heads are used, staged apart."""
        facts, block = frame.layer, frame.block
        if own is not None:
            state.pending = own
        staged = own is not None and block.count == 1 and not (frame.raw_near or group.placement.compact)
        if staged:
            # One query sees itself: the new entry goes in place and is no part of its own.
            assert own is not None
            if self.wants_stat:
                stat = torch.zeros(*own.key.shape[:2], device=own.key.device)
                own = Entries(own.key, own.value, own.index, None, stat)
            group.near.append(own)
            state.pending = None
        outs, lses = [], []
        for rows in self._rows(group, frame):
            past, mine = (None, None) if staged else self._own_parts(group, frame, rows)
            parts = group.parts(frame, rows, mine, past)
            out, lse = attend(parts, facts.scaling, facts.softcap, _heads(facts.sinks, frame.heads),
                              need_lse=self.wants_stat)  # fmt: skip
            outs.append(out)
            lses.append(lse)
        if self.wants_stat:
            state.observed.append((frame, torch.cat([x for x in lses if x is not None], 1)))
        return outs[0] if len(outs) == 1 else torch.cat(outs, 1)

    def _rows(self, group: Group, frame: Frame) -> list[slice]:
        """Blocks of queries that plan together; a tree under a selector goes node by node."""
        count = frame.block.count
        selector = group.selector
        if selector is None or not len(group.far) or not frame.selects(selector):
            return [slice(0, count)]
        step = 1 if frame.block.ancestors is not None or frame.decoding else selector.query_block
        assert step is not None
        return [slice(i, min(i + step, count)) for i in range(0, count, step)]

    def _own_parts(self, group: Group, frame: Frame, rows: slice) -> tuple[Part | None, Part | None]:
        query = frame.near_query[:, rows]
        key, value = frame.near_key, frame.value
        window = None if group.placement.anchored else group.placement.window
        ancestors = frame.block.ancestors
        if ancestors is None and (window is None or frame.block.count <= window):
            past = Part(query, key[:, : rows.start], value[:, : rows.start]) if rows.start else None
            return past, Part(query, key[:, rows], value[:, rows], causal=True)
        index = frame.index
        distance = index[rows, None] - index[None]
        mask = distance >= 0 if ancestors is None else ancestors[rows]
        if window is not None:
            mask = mask & (distance < window)
        return None, Part(query, key, value, mask)

    def _remember(self, state: _Layer, query: Tensor) -> None:
        wanted = self.remembered
        state.window.append(query[:, -wanted:].clone())
        while sum(q.shape[1] for q in state.window[1:]) >= wanted:
            state.window.pop(0)

    # Committing.

    def commit(self, block: Block, tokens: Seq[int], accepted: Seq[int] | None = None) -> None:
        """Makes the block's tokens, or the accepted nodes of its tree, part of the sequence."""
        ids = None
        if accepted is not None and len(accepted) != block.count:
            ids = torch.tensor(accepted, device=self.model.device)
        for index, state in enumerate(self.layers):
            if ids is not None and state.pending is not None:
                state.pending = state.pending.take(ids)
            if self.wants_stat and not self.own_window(index):
                self._observe(state, ids)
            state.observed.clear()
            self._append(state)
        self.tokens.extend(tokens)
        if self.prompt_length is None or block.transient > self._transient:
            self._transient = block.transient
            self.note_peak(block)
        self._settle()
        kind = "chunk" if self.prompt_length is None else "step"
        self._retain(kind)
        if kind == "step":
            self._encode(kind)

    def _append(self, state: _Layer) -> None:
        own = state.pending
        if own is None:
            return
        state.pending = None
        for group in state.groups:
            entries = own if group.heads is None else own.heads(group.heads)
            if group.placement.window is None and not len(group.near) and self.expected:
                group.near.reserve(entries, max(self.expected, len(entries)))
            group.near.append(entries)

    def _settle(self) -> None:
        length = len(self.tokens)
        for index, state in enumerate(self.layers):
            for group in state.groups:
                if group.placement.window is not None:
                    facts = self.model.layers[index]
                    rule = None if facts.window is not None else self.plan.rule
                    empty = torch.empty(0)
                    block = Block(length, torch.empty(0), None, max(self.expected_prompt, length), self.offset)
                    frame = Frame(block, self.model, facts, rule, group.placement, empty, empty, empty,
                                  empty, empty)  # fmt: skip
                    group.settle(frame, length)

    def end_prefill(self) -> None:
        """The prompt is complete: retention and codecs that wait for it act now."""
        if self.prompt_length is not None:
            return
        self.note_peak()
        self.prompt_length = len(self.tokens)
        self._retain("prefill")
        self._encode("prefill")
        for state in self.layers:
            state.window.clear()
        self.note_peak()

    def _moment(self, kind: str, index: int) -> Moment:
        state = self.layers[index]
        queries = query_index = None
        if kind == "prefill" and state.window:
            queries = torch.cat(state.window, 1)[:, -self.remembered :]
            stop = len(self.tokens)
            query_index = torch.arange(stop - queries.shape[1], stop, device=queries.device)
        return Moment(kind, self.model.layers[index], self, queries, query_index)

    def _retain(self, kind: str) -> None:
        if self.retention is None:
            return
        for index, state in enumerate(self.layers):
            if self.own_window(index):
                continue
            moment = self._moment(kind, index)
            groups: list[Group] = []
            for group in state.groups:
                replaced = self.retention.retain(group, moment)
                groups += [group] if replaced is None else list(replaced)
            state.groups = groups

    def _encode(self, kind: str) -> None:
        for index, state in enumerate(self.layers):
            if state.codec is None:
                continue
            moment = self._moment(kind, index)
            for group in state.groups:
                mine = moment
                if group.heads is not None and moment.queries is not None:
                    rows = self._query_heads(index, group.heads)
                    mine = replace(moment, queries=moment.queries[rows])
                state.codec.encode(group.body, mine)

    # Statistics.

    def _observe(self, state: _Layer, ids: Tensor | None) -> None:
        """Adds the probability that near entries received from committed queries."""
        for (frame, lse), group in zip(state.observed, state.groups, strict=True):
            count = frame.block.count
            stride = self.stat_stride if self.prompt_length is None and count > 1 else 1
            rows = slice(0, count, stride) if ids is None else ids
            query, lse = frame.near_query[:, rows], lse[:, rows]
            facts = frame.layer
            entries = group.near.tail
            each = frame.near_query.shape[0] // frame.near_key.shape[0]
            sums = []
            if entries is not None and len(entries):
                mask = None
                window = group.placement.window
                if window is not None and not group.placement.anchored:
                    mask = entries.index[0][None].long() > (frame.index[rows] - window)[:, None]
                key = entries.key
                if frame.raw_near or group.placement.compact:
                    key = frame.rotate_read(entries, group.placement.compact)
                part = Part(query, key, entries.value, mask)
                sums.append(column_sums(part, lse, facts.scaling, facts.softcap))
            if state.pending is not None:
                key, value = frame.near_key, frame.value
                mask = torch.ones(frame.block.count, frame.block.count, device=key.device).tril().bool()
                if frame.block.ancestors is not None:
                    mask = frame.block.ancestors
                mask = mask[rows]
                if ids is not None:
                    mask, key, value = mask[:, ids], key[:, ids], value[:, ids]
                part = Part(query, key, value, mask)
                sums.append(column_sums(part, lse, facts.scaling, facts.softcap))
            total = torch.cat(sums, 1).unflatten(0, (-1, each)).sum(1)
            if stride > 1:
                total *= count / query.shape[1]
            self._add_stat(state, group, total)

    def _add_stat(self, state: _Layer, group: Group, total: Tensor) -> None:
        held = 0
        tail = group.near.tail
        if tail is not None and len(tail):
            held = len(tail)
            assert tail.stat is not None
            tail.stat.add_(total[:, :held])
        own = state.pending
        if own is not None:
            state.pending = Entries(own.key, own.value, own.index, own.log_weight, total[:, held:])


def _heads(sinks: Tensor | None, heads: Tensor | None) -> Tensor | None:
    return sinks if sinks is None or heads is None else sinks[heads]
