"""One layer's plain steps: the general path with everything left out that they do not need.

A plain step sees entries that lie there plain, all of them or a window and the first ones, while
nobody watches.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lengthwise.engine.attention.attend import SingleSoftmax, joint_softmax, tree_softmax
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.placement import IndexMap, same
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import Angles, FrequencyRule


@dataclass
class Observation:
    """What a sequence has its layers note down.

    reading: the prompt is not complete yet. remember: last queries of the prompt to keep. stride:
    every how many-th query of a prompt's chunk has its probabilities summed, standing for those
    skipped; 0 for none. expected: entries there will be in the end, where known, to make room for
    at once. following: the newest queries are kept while decoding too, as many as `remember` says.
    moments: first tokens that mean and covariance of a prompt's queries leave out; None is that
    nobody asks for these.
    """

    reading: bool = True
    remember: int = 0
    stride: int = 0
    expected: int = 0
    following: bool = False
    moments: int | None = None


class Stepping:
    """A layer of one sequence as far as plain steps need it: see `LayerCache`."""

    facts: LayerFacts
    groups: list[HeadGroup]
    rule: FrequencyRule | None
    observation: Observation
    placed: int
    _single: SingleSoftmax

    def _angles(self, metadata: StepMetadata, where: IndexMap | None = None) -> Angles:
        """Angles of the new tokens where they were born, or of the positions `where` says."""
        layout, angles = self.facts.layout, metadata.angles
        assert layout is not None and angles is not None
        return angles.at(layout, self.facts.rotary_type, self.rule, where)

    def place(self, key: Tensor, value: Tensor, metadata: StepMetadata) -> tuple[Tensor, Tensor]:
        """Puts new entries of a plain step among the others.

        Args:
            key: rotated, `[kv_heads, n, head_dim]`.
            value: `[kv_heads, n, value_dim]`.
            metadata: of the step.

        Returns:
            Keys and values of the layer's plain tail, the new ones included.
        """
        near, self.placed = self.groups[0].near, key.shape[1]
        if self.placed == 1:
            return near.push(key, value, metadata.start)
        near.append(KVEntries(key, value, metadata.index[None].int()))
        assert near.tail is not None
        return near.tail.key, near.tail.value

    def step_rotated(
        self, query: Tensor, tail: tuple[Tensor, Tensor], hidden: Tensor | None = None
    ) -> Tensor:
        """Attention of the new tokens of a plain step, whose entries are in place.

        Args:
            query: rotated, `[kv_heads, heads of a group * n, head_dim]`.
            tail: as `place` gave it.
            hidden: bool `[n, n]`, which of the new tokens each must not look at; None for one.

        Returns:
            `[kv_heads, heads of a group * n, value_dim]`.
        """
        shared, scaling = self.groups[0].near.shared, self.facts.scaling
        if shared:
            parts = [(query, block.key, block.value) for block in shared]
            return joint_softmax([*parts, (query, *tail)], scaling, hidden)
        if hidden is None:
            return self._single(query, *tail, scaling)
        return tree_softmax(query, *tail, scaling, hidden)

    def steps_in_window(self, metadata: StepMetadata) -> bool:
        """Whether one new token sees a window and first tokens that are all stored plain already,
        and nobody is watching."""
        group = self.groups[0]
        placement = group.placement
        if (
            len(self.groups) > 1
            or self.observation.reading
            or self.observation.stride
            or self.observation.following
            or placement.window is None
            or placement.compact
            or placement.anchored
            or group.selector is not None
            or group.on_evict is not None
            or not group.near.is_plain
            or not (group.far.is_plain or not len(group.far))
            or (self.rule is not None and self.rule.dynamic)
            or self.facts.layout is None
            or self.facts.softcap is not None
            or self.facts.sinks is not None
        ):
            return False
        gone = metadata.start - placement.window + 1 - group.near_start
        return gone <= 0 or not placement.keeps_far or group.none_leave(metadata, gone)

    def _step_in_window(
        self, query: Tensor, key: Tensor, value: Tensor, metadata: StepMetadata
    ) -> Tensor:
        """`_step` for a window: its keys and the few far ones in one softmax."""
        facts, group = self.facts, self.groups[0]
        placement = group.placement
        assert facts.layout is not None and placement.window is not None
        angles = self._angles(metadata)
        near, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        self.placed = 1
        keys, values = group.near.push(key, value, metadata.start)
        first = max(0, metadata.start - placement.window + 1 - group.near_start)
        shape = (facts.num_kv_heads, -1, facts.head_dim)
        parts = [(near.reshape(shape), keys[:, first:], values[:, first:])]
        if len(group.far):
            far = near
            if placement.far_query is not same:
                there = self._angles(metadata, placement.far_query)
                far = facts.layout.rotate(query, there)
            tail = group.far.tail
            assert tail is not None
            parts.append((far.reshape(shape), tail.key, tail.value))
        return joint_softmax(parts, facts.scaling).reshape(facts.num_heads, 1, -1)


__all__ = ["Observation", "Stepping"]
