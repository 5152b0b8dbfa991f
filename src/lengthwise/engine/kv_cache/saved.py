"""A sequence as plain data and tensors, and back: what it holds, and nothing that it is made of.

The plan makes every object anew; what they held is put into them. So what a file says can be of a
wrong shape, and is refused, but it cannot name code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.cache_plan import CachePlan
from lengthwise.engine.kv_cache.contexts import Apart, Contexts, ContextWeights
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.offload import OffloadedKVStore
from lengthwise.engine.kv_cache.packing import (
    Classes,
    Damaged,
    Packer,
    Unstorable,
    classes_of,
    restore,
    unpack,
)
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.query_moments import QueryMoments
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.adapted_model import AdaptedModel

Read = Callable[[str], Tensor]
_NUMBERS = ("offset", "prompt_length", "reading", "read_with", "peak_bytes")
# What a placement of a few heads alone may say: the rest is code.
_PLACED = ("window", "anchored", "keeps_far", "far_raw", "compact")
_OBSERVED = ("reading", "remember", "stride", "expected")


def pack_sequence(sequence: Sequence) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A sequence between two forwards, as plain data and tensors by name.

    Args:
        sequence: it is not changed.

    Raises:
        Unstorable: where something of the recipe's holds what is no plain data.
    """
    packer, plan = Packer(), sequence.plan
    retention = plan.retention() if plan.retention else None
    classes = classes_of([retention])
    noted = None if sequence.noted is None else list(sequence.noted)
    data: dict[str, Any] = {
        **{name: getattr(sequence, name) for name in _NUMBERS},
        "observation": {n: getattr(sequence._observation, n) for n in _OBSERVED},
        "remember": sequence._remember_at_least,
        "read_again": list(sequence.read_again),
        "lossy": sequence.lossy,
        "tokens": packer.tensor(torch.tensor(list(sequence.tokens), dtype=torch.int64)),
        "token_nll": packer.tensor(torch.tensor(sequence.token_nll, dtype=torch.float64)),
        "noted": packer.pack(noted, "a drafter", {}),
        "last_logits": packer.pack(sequence.last_logits, "the sequence", {}),
        "retention": None if sequence.retention is None
        else packer.state(sequence.retention, retention, _name(retention), classes),
        "layers": [_pack_layer(packer, plan, layer, classes) for layer in sequence.layers],
        "apart": None if sequence.apart is None
        else [sequence.apart.prefix, *sequence.apart.lengths],
    }  # fmt: skip
    return data, packer.tensors


def unpack_sequence(
    data: dict[str, Any], read: Read, model: AdaptedModel, plan: CachePlan
) -> Sequence:
    """The sequence that was packed.

    Args:
        data: as `pack_sequence` gave it.
        read: a tensor by its name, on the model's device.
        model: which read the sequence.
        plan: of the recipe it was read under.

    Raises:
        Damaged: for data that no sequence of this model and plan was packed into.
    """
    observed = data["observation"]
    sequence = Sequence(model, plan, observed["expected"], data["offset"], data["remember"])
    for name in _NUMBERS:
        setattr(sequence, name, data[name])
    for name in _OBSERVED:
        setattr(sequence._observation, name, observed[name])
    sequence._tokens.extend(int(i) for i in unpack(data["tokens"], read, {}).tolist())
    vocab_size = model.vocab_size
    if not all(0 <= token < vocab_size for token in sequence.tokens):
        raise Damaged("token ids are outside the vocabulary")
    sequence.token_nll = unpack(data["token_nll"], read, {}).tolist()
    sequence.noted = unpack(data["noted"], read, {})
    sequence.last_logits = unpack(data["last_logits"], read, {})
    sequence.read_again = list(data["read_again"])
    sequence.lossy = str(data.get("lossy", ""))
    classes = classes_of([sequence.retention])
    if (sequence.retention is None) != (data["retention"] is None):
        raise Damaged("its retention is not the recipe's")
    if sequence.retention is not None:
        restore(sequence.retention, data["retention"], read, classes)
    if (lengths := data.get("apart")) is not None:
        sequence.apart = _apart(lengths, plan, len(sequence))
    if len(data["layers"]) != len(sequence.layers):
        raise Damaged("it has other layers")
    for layer, held in zip(sequence.layers, data["layers"], strict=True):
        weights = plan.contexts or ContextWeights()
        _unpack_layer(layer, held, read, classes, len(sequence), weights)
    held_apart = {None if g.contexts is None else len(g.contexts) for _, g in sequence.groups()}
    if held_apart != {None if sequence.apart is None else sum(sequence.apart.lengths)}:
        raise Damaged("its documents are not those that its layers hold")
    return sequence


def _apart(lengths: Any, plan: CachePlan, tokens: int) -> Apart:
    """Which tokens were read apart, as far as that can be."""
    if not all(type(each) is int and each > 0 for each in lengths) or len(lengths) < 2:
        raise Damaged("what was read apart is none")
    found = Apart(lengths[0], tuple(lengths[1:]))
    if plan.contexts is None or found.stop > tokens:
        raise Damaged("it has documents read apart, and the recipe or its tokens none")
    return found


def _name(thing: object) -> str:
    method = getattr(thing, "method", None)
    return str(getattr(method, "name", type(thing).__name__))


def _plain(value: object) -> bool:
    return value is None or type(value) in (bool, int)


# Layers.


def _pack_layer(
    packer: Packer, plan: CachePlan, layer: LayerCache, classes: Classes
) -> dict[str, Any]:
    selector = plan.selector(layer.facts) if plan.selector and not layer.own_window else None
    codec = None if layer.codec is None or plan.codec is None else plan.codec(layer.facts)
    known = classes | classes_of([codec, selector])
    window = layer.facts.window
    whole = plan.placement if window is None else Placement(window=window, keeps_far=False)
    queries, moments = layer.last_queries(), layer.moments
    # A part that few sessions have is left out of the files of all others.
    noted = {} if moments is None else {"moments": _pack_moments(packer, moments)}
    return noted | {
        "queries": None if queries is None else packer.tensor(queries),
        "codec": None if codec is None else packer.state(layer.codec, codec, _name(codec), known),
        "groups": [_pack_group(packer, g, whole, selector, known) for g in layer.groups],
    }


def _pack_moments(packer: Packer, moments: QueryMoments) -> dict[str, Any]:
    return {
        "skip": moments.skip, "count": moments.count,
        "mean": packer.pack(moments.mean, "moments", {}),
        "scatter": packer.pack(moments.scatter, "moments", {}),
    }  # fmt: skip


def _moments(data: dict[str, Any], read: Read, layer: LayerCache) -> QueryMoments:
    mean, scatter = (unpack(data[name], read, {}) for name in ("mean", "scatter"))
    shape = (layer.facts.num_heads, layer.facts.head_dim)
    shapes = [] if mean is None else [tuple(mean.shape), tuple(scatter.shape)]
    if shapes not in ([], [shape, (*shape, shape[1])]):
        raise Damaged("the moments of its queries are those of other heads")
    return QueryMoments(int(data["skip"]), int(data["count"]), mean, scatter)


def _pack_group(
    packer: Packer, group: HeadGroup, whole: Placement, selector: object, known: Classes
) -> dict[str, Any]:
    where = _name(group.on_evict)
    return {
        "placement": _pack_placement(group.placement, whole),
        "heads": None if group.heads is None else packer.tensor(group.heads),
        "near_start": group.near_start,
        "selector": None if group.selector is None
        else packer.state(group.selector, selector, _name(group.selector), known),
        "on_evict": packer.pack(group.on_evict, where, known),
        "near": _pack_store(packer, group.near, known),
        "far": _pack_store(packer, group.far, known),
        "contexts": None if group.contexts is None
        else [_pack_store(packer, store, known) for store in group.contexts.stores],
    }  # fmt: skip


def _pack_placement(placement: Placement, whole: Placement) -> dict[str, Any] | None:
    """A placement that is not the plan's, as far as it is plain data; None is the plan's."""
    if placement == whole:
        return None
    plain, found = Placement(), {}
    for each in fields(Placement):
        value = getattr(placement, each.name)
        if value == getattr(plain, each.name):
            continue
        if each.name not in _PLACED:
            raise Unstorable(f"a placement of heads holds {each.name}, which is code")
        found[each.name] = value
    return found


def _pack_store(packer: Packer, store: KVStore, known: Classes) -> dict[str, Any]:
    away = isinstance(store, OffloadedKVStore)
    tail = store.read() if away or store.shared else store.tail
    plain = None if tail is None else {
        each.name: packer.pack(getattr(tail, each.name), "entries", {})
        for each in fields(KVEntries)
    }  # fmt: skip
    closed = [packer.pack(block, type(block).__name__, known) for block in store.closed]
    mass = packer.pack(store._closed_mass, "entries", {})
    shared = [len(block) for block in store.shared]
    return {"away": away, "tail": plain, "shared": shared, "closed": closed, "mass": mass}


def _unpack_layer(
    layer: LayerCache, data: dict[str, Any], read: Read, classes: Classes, length: int,
    weights: ContextWeights,
) -> None:  # fmt: skip
    first, whole = layer.groups[0], layer.groups[0].placement
    known = classes | classes_of([layer.codec, first.selector])
    if data["queries"] is not None:
        layer._window = [unpack(data["queries"], read, {})]
    if data.get("moments") is not None:
        layer.moments = _moments(data["moments"], read, layer)
    if (layer.codec is None) != (data["codec"] is None):
        raise Damaged("its codec is not the recipe's")
    if layer.codec is not None:
        restore(layer.codec, data["codec"], read, known)
    groups: list[HeadGroup] = []
    for held in data["groups"]:
        changed = held["placement"]
        group = first if not groups else HeadGroup(whole)
        if changed is not None:
            if not set(changed) <= set(_PLACED) or not all(map(_plain, changed.values())):
                raise Damaged("a placement of heads is none")
            group.placement = Placement(**changed)
        if held["heads"] is not None:
            group.heads = unpack(held["heads"], read, {}).long()
        if (group.selector is None) != (held["selector"] is None):
            raise Damaged("its selection is not the recipe's")
        if group.selector is not None:
            restore(group.selector, held["selector"], read, known)
        group.on_evict = unpack(held["on_evict"], read, known)
        group.near_start = int(held["near_start"])
        if held.get("contexts") is not None:
            group.contexts = Contexts.empty(len(held["contexts"]), weights)
        _fill(group, held, layer, (read, known), length)
        groups.append(group)
    layer.groups = groups


def _fill(
    group: HeadGroup, held: dict[str, Any], layer: LayerCache, reading: tuple[Read, Classes],
    length: int,
) -> None:  # fmt: skip
    read, known = reading
    heads = layer.facts.num_kv_heads if group.heads is None else len(group.heads)
    if held["far"]["away"]:
        group.offload()
        if not isinstance(group.far, OffloadedKVStore):
            raise Damaged("it holds entries off the device, and the recipe none")
    stores = [(group.near, held["near"]), (group.far, held["far"])]
    if group.contexts is not None:
        stores += zip(group.contexts.stores, held["contexts"], strict=True)
    for store, data in stores:
        store.closed = [unpack(block, read, known) for block in data["closed"]]
        store._closed_mass = unpack(data["mass"], read, {})
        if data["tail"] is not None:
            found = {name: unpack(value, read, {}) for name, value in data["tail"].items()}
            entries = KVEntries(**found)
            _check_entries(entries, layer, heads)
            if isinstance(store, OffloadedKVStore):
                store.append(entries)
            else:
                _put(store, entries, data["shared"])
        index = store.index()
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < length:
            raise Damaged("birth ids are beyond the tokens")


def _put(store: KVStore, entries: KVEntries, shared: list[int]) -> None:
    """Holds entries, the first of them as shared blocks of these lengths."""
    whole = all(type(length) is int and length > 0 for length in shared)
    if not whole or sum(shared) > len(entries):
        raise Damaged("its shared entries are not among those it holds")
    start = 0
    for length in shared:
        store.shared = (*store.shared, entries.slice(start, start + length))
        start += length
    if start < len(entries):
        store._tail, store._length = entries.slice(start, len(entries)), len(entries) - start


def _check_entries(entries: KVEntries, layer: LayerCache, heads: int) -> None:
    facts, count = layer.facts, len(entries)
    dtype = layer.model.dtype
    wanted = {
        "key": ((heads, count, facts.head_dim), dtype),
        "value": ((heads, count, facts.value_dim), dtype),
        "log_weight": ((heads, count), torch.float32),
        "attention_mass": ((heads, count), torch.float32),
    }
    for name, (shape, kind) in wanted.items():
        found = getattr(entries, name)
        if found is not None and (tuple(found.shape) != shape or found.dtype != kind):
            raise Damaged(f"{name} of layer {facts.index} is {list(found.shape)} {found.dtype}")
    index = entries.index
    if index.dtype != torch.int32 or tuple(index.shape) not in ((1, count), (heads, count)):
        raise Damaged(f"birth ids of layer {facts.index} are {list(index.shape)} {index.dtype}")


__all__ = ["Damaged", "Unstorable", "pack_sequence", "unpack_sequence"]
