"""What retention and codecs do to what a sequence keeps: at each chunk, at the end of a prompt, and
at each step of decoding."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Protocol

import torch

from lengthwise.engine.kv_cache.aside import Reading, read_aside
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.retention import AskingRetention, CacheUpdate, Phase, Retention


class Changing(Reading, Protocol):
    """A sequence, as far as it is changed here."""

    retention: Retention | None


def own_what_changes(sequence: Changing) -> None:
    """Shared entries are copied where something deletes or encodes them."""
    for layer in sequence.layers:
        if sequence.retention is not None or layer.codec is not None:
            for group in layer.groups:
                group.near.own()


def retain(sequence: Changing, phase: Phase) -> None:
    """Has a retention drop what it does not keep, in all layers but those with own windows."""
    if sequence.retention is None:
        return
    if phase is Phase.PREFILL and isinstance(sequence.retention, AskingRetention):
        sequence.retention.ask_model(sequence, partial(read_aside, sequence))
    for layer in sequence.layers:
        if layer.own_window:
            continue
        update = _update(sequence, phase, layer, layer.observation.following)
        groups: list[HeadGroup] = []
        for group in layer.groups:
            replaced = sequence.retention.retain(group, _of_heads(update, layer, group))
            groups += [group] if replaced is None else list(replaced)
        layer.groups = groups


def encode(sequence: Changing, phase: Phase) -> None:
    """Has codecs encode what is due."""
    for layer in sequence.layers:
        if layer.codec is None:
            continue
        update = _update(sequence, phase, layer)
        for group in layer.groups:
            mine = _of_heads(update, layer, group)
            for store in group.encodable(phase is Phase.PREFILL):
                layer.codec.encode(store, mine)


def _of_heads(update: CacheUpdate, layer: LayerCache, group: HeadGroup) -> CacheUpdate:
    """The update of some heads: which they are, and the queries of those alone that read them."""
    if group.heads is None:
        return update
    queries = update.queries
    mine = None if queries is None else queries[layer.query_heads(group.heads)]
    return replace(update, queries=mine, heads=group.heads)


def _update(
    sequence: Changing, phase: Phase, layer: LayerCache, follows: bool = False
) -> CacheUpdate:
    there = phase is Phase.PREFILL or (follows and phase is Phase.DECODE)
    queries = layer.last_queries() if there else None
    if queries is None:
        return CacheUpdate(phase, layer.facts, sequence, moments=layer.moments)
    stop = len(sequence)
    index = torch.arange(stop - queries.shape[1], stop, device=queries.device)
    return CacheUpdate(phase, layer.facts, sequence, queries, index, layer.moments)


__all__ = ["encode", "own_what_changes", "retain"]
