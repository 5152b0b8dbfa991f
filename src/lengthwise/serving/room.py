"""How many bytes of keys and values a text may come to hold under its recipe.

What one forward holds beside them, such as the chunk of a prompt that it reads, is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from lengthwise._utils.machine import free_memory
from lengthwise.engine.kv_cache.cache_plan import CachePlan
from lengthwise.engine.kv_cache.head_policy import HeadPolicy
from lengthwise.engine.kv_cache.held import Held
from lengthwise.engine.kv_cache.placement import Placement, slack_of
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.fits import free_on
from lengthwise.models.layer_facts import LayerFacts

# Where a device does not say what is free.
UNKNOWN_MEMORY = 4 << 30


def free_for_entries(device: torch.device) -> int:
    """Bytes that are free where a model keeps entries, swap left aside: a step reads them all.

    Args:
        device: of the model.
    """
    free = free_on(device) if device.type == "cuda" else free_memory()
    return UNKNOWN_MEMORY if free is None else free


def most_bytes(
    model: AdaptedModel, plan: CachePlan, prompt: int, new: float, texts: int = 1
) -> int:
    """The most that a text may come to hold: plain entries of all its tokens, or of a window what
    it holds at most.

    Args:
        model: that reads and writes.
        plan: of the recipe.
        prompt: tokens that are read.
        new: tokens that are written, or expected to be.
        texts: that go on from the prompt.
    """
    found = 0.0
    for layer in model.layers:
        for placement, heads in _placements(plan, layer):
            tokens = prompt + texts * new
            if placement.window is not None and placement.bounded:
                most = _most_of(placement, plan, prompt + int(new), layer.device)
                # Texts that go on from a window hold one each.
                tokens = texts * min(prompt + new, most)
            found += tokens * heads * (layer.head_dim + layer.value_dim)
    return int(found * model.dtype.itemsize)


def _placements(plan: CachePlan, layer: LayerFacts) -> Iterator[tuple[Placement, int]]:
    """Where the tokens of a layer stand, and for how many of its key heads."""
    if layer.window is not None:
        yield Placement(window=layer.window, keeps_far=False), layer.num_kv_heads
        return
    for policy in (plan.head_table or {}).get(layer.index, (HeadPolicy(),)):
        heads = layer.num_kv_heads if policy.heads is None else len(policy.heads)
        yield policy.placement or plan.placement, heads


def _most_of(placement: Placement, plan: CachePlan, tokens: int, device: torch.device) -> int:
    """Entries that a window, and what is kept beyond it, come to hold of so many tokens."""
    assert placement.window is not None
    held = placement.window + slack_of(placement.window, plan.selector is not None)
    # A store grows by as much at once.
    held += max(16, held // 64)
    if placement.keep_far is not None:
        held += int(placement.keep_far(torch.arange(tokens, device=device)).sum())
    return held


def own_bytes(held: Iterable[Held]) -> int:
    """Bytes that are held now, those held by reference left aside.

    Args:
        held: sequences and other caches.
    """
    return sum(
        each.nbytes() - sum(group.near.shared_bytes for _, group in each.groups()) for each in held
    )


def coming_bytes(sequence: Sequence, tokens: int) -> int:
    """Bytes that so many more tokens take, stored plain, beyond the room there is for them.

    Args:
        sequence: whose prompt has ended.
        tokens: that are still to be fed.
    """
    size, found = sequence.model.dtype.itemsize, 0
    for layer, group in sequence.groups():
        facts, heads = layer.facts, group.heads
        each = (facts.head_dim + facts.value_dim) * size
        missing = max(0, tokens - group.compressible.room)
        found += missing * each * (facts.num_kv_heads if heads is None else len(heads))
    return found


__all__ = ["coming_bytes", "free_for_entries", "most_bytes", "own_bytes"]
