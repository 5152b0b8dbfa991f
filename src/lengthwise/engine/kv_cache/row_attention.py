"""Attention of one forward over the rows of a batch: each over its own cache.

Prompts that are read whole, with nothing kept before them, are rotated together. Where the kernel
of a GPU serves, one call attends for all of them; elsewhere it is one call a row.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence as Seq

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import attend
from lengthwise.engine.kernels import varlen
from lengthwise.engine.kernels.choice import chosen
from lengthwise.engine.kernels.part import Asked, Part
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.models.rope import Angles


class RowAttention:
    """What `AdaptedModel.forward` calls for every layer.

    sequences: the rows. steps: what `Sequence.next_step` gave for each.
    """

    def __init__(self, sequences: Seq[Sequence], steps: Seq[StepMetadata]) -> None:
        self._sequences = sequences
        self._steps = steps
        self._counts = [step.count for step in steps]
        # Whether every row is a prompt of which nothing was read, and all layers are on one device.
        self._prompts = (
            len(steps) > 1
            and len(sequences[0].model.devices) == 1
            and all(step.prompt and not step.start for step in steps)
        )
        self._angles: dict[Hashable, Angles] = {}
        self._ends: Tensor | None = None

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """
        Args:
            layer: its index.
            query: un-rotated, `[heads, tokens of all rows, head_dim]`.
            key: un-rotated, `[kv_heads, tokens of all rows, head_dim]`.
            value: `[kv_heads, tokens of all rows, value_dim]`.

        Returns:
            `[heads, tokens of all rows, value_dim]`.
        """
        if len(self._steps) == 1:
            return self._sequences[0].attend(layer, query, key, value, self._steps[0])
        caches = [sequence.layers[layer] for sequence in self._sequences]
        if self._prompts and all(map(reads_plainly, caches)):
            return self._together(caches, query, key, value)
        rows = zip(
            self._sequences, self._steps, *(x.split(self._counts, 1) for x in (query, key, value)),
            strict=True,
        )  # fmt: skip
        outs = [sequence.attend(layer, q, k, v, step) for sequence, step, q, k, v in rows]
        return torch.cat(outs, 1)

    def _together(
        self, caches: Seq[LayerCache], query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """Whole prompts: their entries are put in place, and each attends to its own."""
        facts = caches[0].facts
        if facts.layout is not None:
            angles = self._angles_of(caches)
            query, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        rows = list(zip(*(x.split(self._counts, 1) for x in (query, key, value)), strict=True))
        parts = []
        for cache, step, (q, k, v) in zip(caches, self._steps, rows, strict=True):
            _place(cache, q, KVEntries(k, v, step.index[None].int()))
            held = cache.groups[0].near.tail
            assert held is not None
            parts.append(Part(q, held.key, held.value, causal=step.count > 1))
        if facts.sinks is None and _by_varlen(parts, facts.scaling, facts.softcap):
            ends, longest = self._ends_on(query.device), max(self._counts)
            return varlen.flash_rows(query, key, value, ends, longest, facts.scaling)
        outs = [attend([part], facts.scaling, facts.softcap, facts.sinks)[0] for part in parts]
        return torch.cat(outs, 1)

    def _angles_of(self, caches: Seq[LayerCache]) -> Angles:
        """Angles `[tokens of all rows, head_dim]`, made once for all layers that turn alike."""
        facts = caches[0].facts
        spot = facts.layout, facts.rotary_type, *(cache.rule for cache in caches)
        found = self._angles.get(spot)
        if found is None:
            each = [c.angles(step) for c, step in zip(caches, self._steps, strict=True)]
            cos, sin = zip(*each, strict=True)
            found = self._angles[spot] = torch.cat(cos), torch.cat(sin)
        return found

    def _ends_on(self, device: torch.device) -> Tensor:
        """Where rows begin and end among all tokens: int32 `[rows + 1]`."""
        if self._ends is None:
            counts = torch.tensor([0, *self._counts])
            self._ends = counts.cumsum(0, dtype=torch.int32).to(device, non_blocking=True)
        return self._ends


def reads_plainly(cache: LayerCache) -> bool:
    """Whether a layer that keeps nothing yet stores rotated keys as they come, all of them in one
    group, and nobody sums what they are given.

    Args:
        cache: the layer, of a sequence.
    """
    group = cache.groups[0]
    return (
        len(cache.groups) == 1
        and group.placement.window is None
        and not group.placement.compact
        and group.selector is None
        and not group.kept()
        and not cache.observation.stride
        and (cache.rule is None or not cache.rule.dynamic)
    )


def _place(cache: LayerCache, query: Tensor, entries: KVEntries) -> None:
    """Puts new entries in place, for which somebody else attends with the rotated query."""
    if cache.observation.remember and cache.observation.reading:
        cache._remember(query)
    cache._append(cache.groups[0], entries)
    cache.placed = len(entries)


def _by_varlen(parts: Seq[Part], scaling: float, softcap: float | None) -> bool:
    """Whether the kernel of a GPU serves the longest row best, and all of them."""
    longest = max(parts, key=lambda part: part.key.shape[1])
    if chosen("block", longest.query, longest.key) != "varlen":
        return False
    return varlen.serves(Asked([longest], scaling, softcap))


__all__ = ["RowAttention", "reads_plainly"]
