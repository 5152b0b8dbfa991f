"""Attention for prompts that one forward reads whole, with nothing kept before them.

Their queries and keys are turned together. Where the kernel of a GPU serves, one call attends for
all of them; elsewhere it is one call a prompt.
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


class PromptRows:
    """The prompts of one forward, side by side.

    steps: what `Sequence.next_step` gave for each.
    """

    def __init__(self, steps: Seq[StepMetadata]) -> None:
        self._steps = steps
        self._counts = [step.count for step in steps]
        self._angles: dict[Hashable, Angles] = {}
        self._ends: Tensor | None = None

    @classmethod
    def of(cls, sequences: Seq[Sequence], steps: Seq[StepMetadata]) -> PromptRows | None:
        """The rows of a forward; None where one of them is no beginning of a prompt, or layers
        lie on several devices.

        Args:
            sequences: the rows.
            steps: of these sequences.
        """
        begin = all(step.prompt and not step.start for step in steps)
        return cls(steps) if begin and len(sequences[0].model.devices) == 1 else None

    def attend(
        self, layers: Seq[LayerCache], query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor | None:
        """Attention of one layer for all prompts, whose entries it keeps from then on.

        Args:
            layers: the layer of every row.
            query: un-rotated, `[heads, tokens of all rows, head_dim]`.
            key: un-rotated, `[kv_heads, tokens of all rows, head_dim]`.
            value: `[kv_heads, tokens of all rows, value_dim]`.

        Returns:
            `[heads, tokens of all rows, value_dim]`; None where a row stores otherwise.
        """
        if not all(map(reads_plainly, layers)):
            return None
        facts = layers[0].facts
        for layer, own in zip(layers, query.split(self._counts, 1), strict=True):
            layer.note_moments(own, 0)
        if facts.layout is not None:
            angles = self._angles_of(layers)
            query, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        rows = list(zip(*(x.split(self._counts, 1) for x in (query, key, value)), strict=True))
        parts = []
        for layer, step, (q, k, v) in zip(layers, self._steps, rows, strict=True):
            _place(layer, q, KVEntries(k, v, step.index[None].int()))
            held = layer.groups[0].near.tail
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
            each = [c._angles(step) for c, step in zip(caches, self._steps, strict=True)]
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
        and cache.bias is None
        and cache.query_scale is None
        and (cache.rule is None or not cache.rule.dynamic)
    )


def _place(cache: LayerCache, query: Tensor, entries: KVEntries) -> None:
    """Puts new entries in place, for which somebody else attends with the rotated query."""
    cache.note_queries(query)
    cache._append(cache.groups[0], entries)
    cache.placed = len(entries)


def _by_varlen(parts: Seq[Part], scaling: float, softcap: float | None) -> bool:
    """Whether the kernel of a GPU serves the longest row best, and all of them."""
    longest = max(parts, key=lambda part: part.key.shape[1])
    if chosen("block", longest.query, longest.key) != "varlen":
        return False
    return varlen.serves(Asked([longest], scaling, softcap))


__all__ = ["PromptRows", "reads_plainly"]
