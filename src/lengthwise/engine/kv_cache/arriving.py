"""A sequence whose keys and values come in from elsewhere, chunk by chunk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.packing import Unstorable
from lengthwise.engine.kv_cache.sequence import Sequence

# What a sequence that nothing was noted of says of itself.
_EMPTY: tuple[object, ...] = (None, {}, [])


def plain_entries(data: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Names of keys, values and birth ids of every layer, where a sequence holds nothing else.

    Args:
        data: of the sequence, as `pack_sequence` gave it.

    Raises:
        Unstorable: where it holds what cannot be put together chunk by chunk.
    """
    if data["retention"] not in _EMPTY or data["noted"] not in _EMPTY:
        raise Unstorable("it holds notes of a retention or a drafter")
    if data["apart"] is not None:
        raise Unstorable("it holds documents that were read apart")
    found = []
    for layer in data["layers"]:
        group = layer["groups"][0]
        stores = (group["near"], group["far"])
        if group.get("contexts") is not None:
            raise Unstorable("its documents were read apart, and are not one run of tokens")
        alone = len(layer["groups"]) == 1 and group["heads"] is None and not group["near_start"]
        plain = (
            group["placement"] is None and group["selector"] is None and group["on_evict"] is None
        )
        noted = layer["queries"] is not None or layer["codec"] not in _EMPTY
        if not alone or not plain or noted or any(each["closed"] for each in stores):
            raise Unstorable("a layer holds more than one run of keys and values")
        tail = group["near"]["tail"]
        if group["far"]["tail"] is not None or tail is None:
            raise Unstorable("a layer holds entries that left a window")
        if tail["log_weight"] is not None or tail["attention_mass"] is not None:
            raise Unstorable("its entries have weights or sums")
        found.append(tuple(tail[name]["tensor"] for name in ("key", "value", "index")))
    return found


def join(sequence: Sequence, tokens: list[int], entries: list[tuple[Tensor, Tensor]]) -> None:
    """Makes tokens part of a sequence whose entries were computed elsewhere.

    Args:
        sequence: between two forwards, its prompt not ended.
        tokens: ids.
        entries: keys and values `[heads, tokens, dim]` of every layer.
    """
    start = len(sequence)
    for layer, (key, value) in zip(sequence.layers, entries, strict=True):
        device = layer.facts.device
        index = torch.arange(start, start + len(tokens), dtype=torch.int32, device=device)[None]
        layer.groups[0].near.append(KVEntries(key.to(device), value.to(device), index))
    sequence._tokens.extend(tokens)
    sequence.note_peak()


def settle(sequence: Sequence, data: dict[str, Any], last_logits: Tensor | None) -> None:
    """Ends a sequence as the one that was packed had ended.

    Args:
        sequence: which holds all its tokens.
        data: of the packed one.
        last_logits: `[vocab]` behind the last token, where they did not come of a forward.
    """
    sequence.reading, sequence.read_with = int(data["reading"]), int(data["read_with"])
    sequence.last_logits = last_logits if last_logits is not None else sequence.last_logits
    if data["prompt_length"] is not None:
        sequence.end_prefill()


__all__ = ["join", "plain_entries", "settle"]
