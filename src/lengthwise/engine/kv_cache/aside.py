"""A forward behind a finished prompt that shows what its tokens attend to, and leaves nothing.

A retention may have one run before anything is dropped, to ask the model itself what it needs of
its cache. The time counts as time to first token.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from lengthwise.engine.kernels.choice import using
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.new_parts import near_part
from lengthwise.engine.kv_cache.query_scale import scaled
from lengthwise.engine.kv_cache.retention import CacheView, WatchLayer
from lengthwise.engine.kv_cache.step_metadata import LayerInputs, StepMetadata
from lengthwise.models.rope import StepAngles


class Reading(CacheView, Protocol):
    """A sequence, as far as it can be read behind."""

    @property
    def layers(self) -> list[LayerCache]: ...

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, metadata: StepMetadata
    ) -> Tensor: ...

    def note_peak(self, metadata: StepMetadata | None = None) -> None: ...


@torch.no_grad()
def read_aside(sequence: Reading, tokens: Seq[int], watch: WatchLayer) -> None:
    """Reads tokens behind a prompt in one forward, shows each pruned layer, and forgets them.

    Every token sees all that is kept and those of its own before it, at the frequencies that the
    prompt was read with.

    Args:
        sequence: whose prompt is complete, all of it near.
        tokens: ids, at least one.
        watch: is shown the queries and keys of each layer without a window of the model's own.
    """
    model, start = sequence.model, len(sequence)
    index = torch.arange(start, start + len(tokens), device=model.device)
    length = max(sequence.expected_prompt, start)
    angles = None
    if model.rope is not None:
        angles = StepAngles(model.rope, index, start, sequence.offset, length)
    metadata = StepMetadata(start, index, None, length, sequence.offset, angles)

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        cache, here = sequence.layers[layer], metadata.on(query.device)
        if not cache.own_window:
            seen = scaled(cache.query_scale, query, index)
            _show(cache, cache._inputs(seen, key, value, here), watch)
        try:
            out = sequence.attend(layer, query, key, value, metadata)
            held = 0 if cache.pending is None else _bytes(cache.pending.tensors())
        finally:
            # What this layer was given is not needed by the next.
            cache.discard()
        metadata.transient = max(metadata.transient, held)
        return out

    ids = torch.tensor(list(tokens), device=model.device)
    with nullcontext() if model.kernel is None else using(model.kernel):
        model.forward(ids, index, attention, torch.zeros(1, dtype=torch.long, device=model.device))
    sequence.note_peak(metadata)


def _show(cache: LayerCache, inputs: LayerInputs, watch: WatchLayer) -> None:
    (group,) = cache.groups
    held = near_part(group, inputs, slice(0, inputs.metadata.count))
    assert held is not None
    watch(cache.facts, inputs.near_query, held.key, inputs.near_key)


def _bytes(tensors: Seq[Tensor]) -> int:
    return sum(t.nbytes for t in tensors)


__all__ = ["Reading", "read_aside"]
