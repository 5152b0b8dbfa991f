"""Sequences made of entries that somebody gives, in place of what a model read."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.cache_plan import FULL_CACHE
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.sequence import Sequence


def entries_of(sequence: Sequence) -> list[KVEntries]:
    """Copies of what each layer keeps, keys rotated as they are stored.

    Args:
        sequence: which has lost nothing, and holds it plain.

    Raises:
        ValueError: where a layer no longer holds every token.
    """
    found = []
    for layer in sequence.layers:
        (group,) = layer.groups
        entries = group.near.read()
        if entries is None or len(entries) != len(sequence):
            raise ValueError(f"layer {layer.facts.index} does not hold all {len(sequence)} tokens")
        found.append(entries.clone())
    return found


def put_entries(sequence: Sequence, tokens: Seq[int], layers: Seq[KVEntries]) -> None:
    """Makes an empty sequence hold given entries as if it had read their tokens.

    Args:
        sequence: which has read nothing.
        tokens: one an entry.
        layers: of each layer `[heads, n, ...]`; their birth ids are given anew, from 0 on.

    Raises:
        ValueError: for other numbers of layers or entries, and for a sequence that has read.
    """
    if len(sequence) or len(layers) != len(sequence.layers):
        raise ValueError("an empty sequence takes the entries of every layer")
    for layer, given in zip(sequence.layers, layers, strict=True):
        if len(given) != len(tokens):
            raise ValueError(f"{len(given)} entries for {len(tokens)} tokens")
        facts, dtype = layer.facts, sequence.model.dtype
        index = torch.arange(len(tokens), dtype=torch.int32, device=facts.device)[None]
        key, value = (each.to(facts.device, dtype) for each in (given.key, given.value))
        (group,) = layer.groups
        group.near.replace(KVEntries(key, value, index))
    sequence._tokens.extend(tokens)
    sequence.note_peak()


def last_logits_of(sequence: Sequence) -> torch.Tensor:
    """The logits `[vocab]` that the last token gives behind the entries of those before it.

    Args:
        sequence: of plain entries; it is not changed. Its last entry itself is made anew.
    """
    before = Sequence(sequence.model, FULL_CACHE, expected=len(sequence))
    if len(sequence) > 1:
        layers = [entries.slice(0, len(sequence) - 1) for entries in entries_of(sequence)]
        put_entries(before, sequence.tokens_from(0)[:-1], layers)
    return loop.prefill(before, sequence.tokens_from(len(sequence) - 1))


__all__ = ["entries_of", "last_logits_of", "put_entries"]
