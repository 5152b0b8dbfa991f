"""Documents without an order of their own: every query has them in the order of its attention.

Wang et al., "Eliminating Position Bias of Language Models: A Mechanistic Approach", ICLR 2025,
arXiv:2407.01100 (PINE). The equations stand in `methods/positions/pine.py`.

All documents end at the same position and are stored there, un-rotated. A document that is moved
back by s positions for some query is the document where it stands, seen by a query s positions
later, for a rotation knows differences alone. So no key is turned anew for a query: each document
is a part of attention with a rotation of the query of its own.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import attend
from lengthwise.engine.attention.scores import lse_at
from lengthwise.engine.kernels.part import AnyPart, Part
from lengthwise.engine.kv_cache.contexts import ContextRule, Contexts
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.step_metadata import LayerInputs


@dataclass(frozen=True)
class OrderFree(ContextRule):
    """Every query behind the documents has an order of them of its own, a query head each."""

    does: ClassVar[str] = "gives every query its own order of several documents"
    order_free: ClassVar[bool] = True

    def parts(
        self, contexts: Contexts, inputs: LayerInputs, rows: slice
    ) -> tuple[list[AnyPart], list[KVEntries]]:
        held = [entries for store in contexts.stores if (entries := store.read()) is not None]
        lengths = [len(entries) for entries in held]
        query = inputs.raw_query[:, rows]
        mass = document_lse(query, [entries.key for entries in held], inputs)
        shift = shifts(mass - lengths_as(lengths, mass).log(), lengths)
        here = inputs.index[rows] + inputs.metadata.offset
        turned = [_placed(entries, contexts.stop - len(entries), inputs) for entries in held]
        parts: list[AnyPart] = [
            Part(inputs.rotate_at(query, here + shift[..., n]), entries.key, entries.value,
                 log_weight=entries.log_weight)
            for n, entries in enumerate(turned)
        ]  # fmt: skip
        return parts, turned


def read_together(group: HeadGroup, inputs: LayerInputs, key: Tensor, lengths: Seq[int]) -> Tensor:
    """Attention of documents that one forward brings, and what is kept of them from then on.

    A document sees the text before all of them, itself causally, and the others whole and before
    it, those nearest that its tokens together give most attention.

    Args:
        group: all heads of a layer, which has read what stands before the documents.
        inputs: of all their tokens, each document ending where the longest possible would.
        key: theirs un-rotated, `[kv_heads, tokens, head_dim]`.
        lengths: tokens of each document.

    Returns:
        `[heads, tokens, value_dim]`.
    """
    layer, outs, start = inputs.layer, [], 0
    spans = []
    for length in lengths:
        spans.append(slice(start, start + length))
        start += length
    for number, rows in enumerate(spans):
        own = Part(
            inputs.near_query[:, rows], inputs.near_key[:, rows], inputs.value[:, rows], causal=True
        )
        others = [n for n in range(len(spans)) if n != number]
        parts = group.parts(inputs, rows, own, None)
        parts += _others(inputs, key, rows, [spans[n] for n in others])
        outs.append(attend(parts, layer.scaling, layer.softcap, layer.sinks)[0])
    index = inputs.index.int()
    documents = [
        KVEntries(key[:, rows], inputs.value[:, rows], index[None, rows]).clone() for rows in spans
    ]
    group.contexts = Contexts.of(documents, inputs.start, OrderFree(), each=True)
    return torch.cat(outs, 1)


def _others(inputs: LayerInputs, key: Tensor, rows: slice, others: Seq[slice]) -> list[AnyPart]:
    """What the tokens `rows` of one document see of the others: one order for all of them."""
    if not others:
        return []
    query = inputs.raw_query[:, rows]
    lengths = [each.stop - each.start for each in others]
    lse = document_lse(query, [key[:, each] for each in others], inputs)
    # Summed over the tokens of the document, `[heads, 1, others]`.
    share = torch.softmax(lse, -1).sum(1, keepdim=True)
    shift = shifts(share / lengths_as(lengths, share), lengths) + query.shape[1]
    count = query.shape[1]
    stop = inputs.start + inputs.metadata.count + inputs.metadata.offset
    here = torch.arange(stop - count, stop, device=query.device)
    return [
        Part(inputs.rotate_at(query, here + shift[..., n]), inputs.near_key[:, each],
             inputs.value[:, each])
        for n, each in enumerate(others)
    ]  # fmt: skip


def document_lse(query: Tensor, keys: Seq[Tensor], inputs: LayerInputs) -> Tensor:
    """Log-sum-exp of the logits that queries have with each document, without any rotation.

    Args:
        query: un-rotated `[heads, n, head_dim]`.
        keys: un-rotated, of each document `[kv_heads, tokens, head_dim]`.
        inputs: of the layer, whose scaling and devices are used.

    Returns:
        float32 `[heads, n, documents]`.
    """
    # Values have no say in it; the keys stand in for them.
    found = [lse_at([Part(query, key, key)], slice(None), inputs.layer.scaling) for key in keys]
    return torch.stack(found, -1)


def shifts(importance: Tensor, lengths: Seq[int]) -> Tensor:
    """By how many positions each document is moved back: those of all that are more important.

    Args:
        importance: `[heads, n, documents]`; of two that are equal the earlier is nearer.
        lengths: tokens of each document.

    Returns:
        int64, as `importance`.
    """
    order = importance.argsort(dim=-1, descending=True, stable=True)
    sizes = torch.tensor(list(lengths), device=importance.device)[order]
    return torch.zeros_like(order).scatter_(-1, order, sizes.cumsum(-1) - sizes)


def lengths_as(lengths: Seq[int], like: Tensor) -> Tensor:
    """Lengths as numbers of the kind of another tensor."""
    return torch.tensor(list(lengths), dtype=like.dtype, device=like.device)


def _placed(entries: KVEntries, start: int, inputs: LayerInputs) -> KVEntries:
    """A document's entries with keys rotated where they stand, from `start` on."""
    first = start + inputs.metadata.offset
    where = torch.arange(first, first + len(entries), device=entries.key.device)
    key = inputs.rotate_at(entries.key, where)
    return KVEntries(key, entries.value, entries.index, entries.log_weight)


__all__ = ["OrderFree", "document_lse", "read_together", "shifts"]
