"""What the kernels in Triton run on the device: tiles of a softmax over keys that lie apart.

One program has a tile of rows (queries of the heads that share a key head), and a span of keys. Of
its keys it holds the running softmax of Milakov and Gimelshein (arXiv:1805.02867), tile by tile:

    top' = max(top, max scores),  total' = total exp(top - top') + sum exp(scores - top')

This file is imported where there is Triton; `compiled` is what it shares with the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from lengthwise.engine.kernels.compiled import INTERPRETED

# Keys of a tile, warps and stages among which the fastest is found where a program runs.
WAYS = ((32, 4, 3), (64, 4, 2), (128, 8, 2))
NAMES = ["ROWS", "DIM", "VALUE", "bucket"]
# The interpreter has no products in bfloat16.
WIDEN = tl.constexpr(INTERPRETED)


def _tuned(function: Any) -> Any:
    """A program whose KEYS of a tile are timed, once for each of NAMES and the dtypes."""
    ways = [
        triton.Config({"KEYS": keys}, num_warps=warps, num_stages=stages)
        for keys, warps, stages in WAYS
    ]
    tune = triton.autotune(
        ways[:1] if INTERPRETED else ways, key=NAMES, do_bench=_bench, cache_results=True
    )
    counts = {"keys", "span", "slots", "bucket"} & set(function.__code__.co_varnames)
    return tune(triton.jit(function, do_not_specialize=sorted(counts)))


def _bench(call: Callable[[], object], quantiles: tuple[float, ...]) -> Any:
    return triton.testing.do_bench(call, warmup=5, rep=20, quantiles=quantiles)


@triton.jit
def product(a, b):
    """a b, summed in float32."""
    if WIDEN:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def add_tile(scores, value, top, total, mixed):
    """One more tile: scores `[ROWS, KEYS]`, -inf where invisible, and values `[KEYS, VALUE]`."""
    higher = tl.maximum(top, tl.max(scores, 1))
    # A row that has seen nothing yet has no top to subtract.
    base = tl.where(higher == float("-inf"), 0.0, higher)
    weights = tl.exp(scores - base[:, None])
    fade = tl.exp(top - base)
    total = total * fade + tl.sum(weights, 1)
    seen = product(weights.to(value.dtype), value)
    return higher, total, mixed * fade[:, None] + seen


@triton.jit
def adjusted(scores, scaling, softcap, CAPPED: tl.constexpr):
    """Logits of products."""
    scores = scores * scaling
    if CAPPED:
        # tanh(x) = 1 - 2 / (exp(2 x) + 1)
        scores = softcap * (1.0 - 2.0 / (tl.exp(2.0 * scores / softcap) + 1.0))
    return scores


@triton.jit
def unmasked(seen, mask, column, m_key, HIDDEN: tl.constexpr):
    """What is seen `[ROWS, KEYS]`, less what a mask hides; columns below 0 have no mask."""
    asked = seen & (column >= 0)[None, :]
    bit = tl.load(mask + column.to(tl.int64)[None, :] * m_key, mask=asked, other=1 - HIDDEN)
    return seen & ((bit != 0) != (HIDDEN != 0))


@triton.jit
def tile_of(base, row, inside, column, SIZE: tl.constexpr):
    """Numbers `[rows, columns]` at rows `row` of `base`, 0 where there are none."""
    there = inside[:, None] & (column < SIZE)[None, :]
    return tl.load(base + row[:, None] + column[None, :], mask=there, other=0.0)


@triton.jit
def row_of(owner, queries, FOLD: tl.constexpr, ROWS: tl.constexpr):
    """The rows of a program: query heads, queries, and which of them there are."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    head = owner * FOLD + rows // queries
    return head, rows % queries, rows < FOLD * queries


@triton.jit
def put(out, lse, at, inside, top, total, mixed, VALUE: tl.constexpr, WIDE: tl.constexpr):
    """Stores a span's output `[..., VALUE]` and its LSE at the rows `at`."""
    channels = tl.arange(0, WIDE)
    some = tl.where(total == 0.0, 1.0, total)
    where = at[:, None] * VALUE + channels[None, :]
    mask = inside[:, None] & (channels < VALUE)[None, :]
    tl.store(out + where, (mixed / some[:, None]).to(out.dtype.element_ty), mask=mask)
    found = tl.where(total == 0.0, float("-inf"), top + tl.log(some))
    tl.store(lse + at, found, mask=inside)


# fmt: off
@_tuned
def attend_span(
    query, key, value, mask, weight, ids, out, lse, scaling, softcap,
    heads, queries, keys, span, first, bucket,
    q_head, q_row, k_head, k_row, v_head, v_row, m_head, m_row, m_key, w_head, i_head,
    FOLD: tl.constexpr, SHARE: tl.constexpr, DIM: tl.constexpr, VALUE: tl.constexpr,
    ROWS: tl.constexpr, D: tl.constexpr, V: tl.constexpr, CAUSAL: tl.constexpr,
    MASKED: tl.constexpr, HIDDEN: tl.constexpr, WEIGHTED: tl.constexpr, CHOSEN: tl.constexpr,
    CAPPED: tl.constexpr, KEYS: tl.constexpr,
):
    """A tile of rows over a span of keys, those of `ids` where CHOSEN.

    FOLD query heads are rows of one owner, SHARE owners have one key head. The mask is of the keys
    from `first` on; HIDDEN says that it marks what is invisible.
    """
    owner, part = tl.program_id(2), tl.program_id(1)
    head, token, inside = row_of(owner, queries, FOLD, ROWS)
    dims, wide = tl.arange(0, D), tl.arange(0, V)
    at_key = (owner // SHARE).to(tl.int64)
    key += at_key * k_head
    value += at_key * v_head
    rows = head.to(tl.int64) * q_head + token.to(tl.int64) * q_row
    q = tile_of(query, rows, inside, dims, DIM)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, V], tl.float32)
    stop = tl.minimum(part * span + span, keys)
    if CAUSAL:
        stop = tl.minimum(stop, keys - queries + tl.max(tl.where(inside, token, 0), 0) + 1)
    for start in range(part * span, stop, KEYS):
        column = start + tl.arange(0, KEYS)
        there = column < stop
        place = column.to(tl.int64)
        if CHOSEN:
            place = tl.load(ids + owner.to(tl.int64) * i_head + column, mask=there, other=0)
            place = place.to(tl.int64)
        k = tile_of(key, place * k_row, there, dims, DIM)
        scores = adjusted(product(q, tl.trans(k)), scaling, softcap, CAPPED)
        if WEIGHTED:
            more = tl.load(weight + at_key * w_head + place, mask=there, other=0.0)
            scores += more[None, :]
        seen = inside[:, None] & there[None, :]
        if CAUSAL:
            seen = seen & (column[None, :] <= keys - queries + token[:, None])
        if MASKED:
            row = head.to(tl.int64) * m_head + token.to(tl.int64) * m_row
            seen = unmasked(seen, mask + row[:, None], column - first, m_key, HIDDEN)
        scores = tl.where(seen, scores, float("-inf"))
        v = tile_of(value, place * v_row, there, wide, VALUE)
        top, total, mixed = add_tile(scores, v, top, total, mixed)
    at = (part * heads + head).to(tl.int64) * queries + token
    put(out, lse, at, inside, top, total, mixed, VALUE, V)


@triton.jit
def decoded(codes, scale, minimum, row, there, dims, c_row, s_row,
            SIZE: tl.constexpr, BITS: tl.constexpr, TOKENS: tl.constexpr, EACH: tl.constexpr,
            SIGNED: tl.constexpr):
    """Numbers `[KEYS, channels]` of the entries `row`: minimum + scale code."""
    inside = there[:, None] & (dims < SIZE)[None, :]
    place = (row // TOKENS * s_row)[:, None] + (dims // EACH)[None, :]
    size = tl.load(scale + place, mask=inside, other=0.0).to(tl.float32)
    if SIGNED:
        code = tl.load(codes + (row * c_row)[:, None] + dims[None, :], mask=inside, other=0)
        return code.to(tl.float32) * size
    byte = tl.load(codes + (row * c_row)[:, None] + (dims * BITS // 8)[None, :], mask=inside,
                   other=0).to(tl.int32)
    code = (byte >> (dims * BITS % 8)[None, :]) & ((1 << BITS) - 1)
    least = tl.load(minimum + place, mask=inside, other=0.0).to(tl.float32)
    return code.to(tl.float32) * size + least


@_tuned
def attend_codes(
    query, k_codes, k_scale, k_least, v_codes, v_scale, v_least, out, lse, scaling, softcap,
    heads, queries, keys, span, bucket, q_head, q_row,
    k_head, k_row, ks_head, ks_row, v_head, v_row, vs_head, vs_row,
    FOLD: tl.constexpr, DIM: tl.constexpr, VALUE: tl.constexpr, ROWS: tl.constexpr,
    D: tl.constexpr, V: tl.constexpr, CAPPED: tl.constexpr,
    K_BITS: tl.constexpr, K_TOKENS: tl.constexpr, K_EACH: tl.constexpr, K_SIGNED: tl.constexpr,
    V_BITS: tl.constexpr, V_TOKENS: tl.constexpr, V_EACH: tl.constexpr, V_SIGNED: tl.constexpr,
    KEYS: tl.constexpr,
):
    """A tile of rows over a span of encoded keys, all of them visible."""
    owner, part = tl.program_id(2), tl.program_id(1)
    head, token, inside = row_of(owner, queries, FOLD, ROWS)
    dims, wide = tl.arange(0, D), tl.arange(0, V)
    at_key = owner.to(tl.int64)
    rows = head.to(tl.int64) * q_head + token.to(tl.int64) * q_row
    q = tile_of(query, rows, inside, dims, DIM)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, V], tl.float32)
    stop = tl.minimum(part * span + span, keys)
    for start in range(part * span, stop, KEYS):
        column = start + tl.arange(0, KEYS)
        there = column < stop
        row = column.to(tl.int64)
        k = decoded(k_codes + at_key * k_head, k_scale + at_key * ks_head,
                    k_least + at_key * ks_head, row, there, dims, k_row, ks_row,
                    DIM, K_BITS, K_TOKENS, K_EACH, K_SIGNED).to(q.dtype)
        scores = adjusted(product(q, tl.trans(k)), scaling, softcap, CAPPED)
        scores = tl.where(there[None, :], scores, float("-inf"))
        v = decoded(v_codes + at_key * v_head, v_scale + at_key * vs_head,
                    v_least + at_key * vs_head, row, there, wide, v_row, vs_row,
                    VALUE, V_BITS, V_TOKENS, V_EACH, V_SIGNED).to(q.dtype)
        top, total, mixed = add_tile(scores, v, top, total, mixed)
    at = (part * heads + head).to(tl.int64) * queries + token
    put(out, lse, at, inside, top, total, mixed, VALUE, V)


@_tuned
def attend_ragged(
    query, table, out, lse, scaling, softcap, heads, queries, slots, bucket, q_head, q_row,
    FOLD: tl.constexpr, DIM: tl.constexpr, VALUE: tl.constexpr, ROWS: tl.constexpr,
    D: tl.constexpr, V: tl.constexpr, CAPPED: tl.constexpr, KEYS: tl.constexpr,
):
    """A tile of rows over one span of the table `[owners, slots, 4]`: addresses of its keys, values
    and weights (0: none), and how many keys it has. Addresses are multiples of 16 bytes."""
    owner, slot = tl.program_id(2), tl.program_id(1)
    head, token, inside = row_of(owner, queries, FOLD, ROWS)
    dims, wide = tl.arange(0, D), tl.arange(0, V)
    entry = table + (owner * slots + slot) * 4
    kind = tl.pointer_type(query.dtype.element_ty)
    key = tl.multiple_of(tl.load(entry), 16).to(kind)
    value = tl.multiple_of(tl.load(entry + 1), 16).to(kind)
    address = tl.load(entry + 2)
    weight = address.to(tl.pointer_type(tl.float32))
    keys = tl.load(entry + 3).to(tl.int32)
    rows = head.to(tl.int64) * q_head + token.to(tl.int64) * q_row
    q = tile_of(query, rows, inside, dims, DIM)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, V], tl.float32)
    for start in range(0, keys, KEYS):
        column = start + tl.arange(0, KEYS)
        there = column < keys
        place = column.to(tl.int64)
        k = tile_of(key, place * DIM, there, dims, DIM)
        scores = adjusted(product(q, tl.trans(k)), scaling, softcap, CAPPED)
        more = tl.load(weight + column, mask=there & (tl.where(there, address, 0) != 0), other=0.0)
        scores = tl.where(there[None, :], scores + more[None, :], float("-inf"))
        v = tile_of(value, place * VALUE, there, wide, VALUE)
        top, total, mixed = add_tile(scores, v, top, total, mixed)
    at = (slot * heads + head).to(tl.int64) * queries + token
    put(out, lse, at, inside, top, total, mixed, VALUE, V)


@triton.jit
def join(each, theirs, out, lse, rows, spans, VALUE: tl.constexpr, V: tl.constexpr):
    """Joins the spans of one row: outputs `[spans, rows, VALUE]` by their LSE `[spans, rows]`."""
    row = tl.program_id(0).to(tl.int64)
    wide = tl.arange(0, V)
    top = tl.load(theirs + row)
    for span in range(1, spans):
        top = tl.maximum(top, tl.load(theirs + span * rows + row))
    base = tl.where(top == float("-inf"), 0.0, top)
    total = 0.0
    mixed = tl.zeros([V], tl.float32)
    for span in range(spans):
        at = span * rows + row
        share = tl.exp(tl.load(theirs + at) - base)
        total += share
        mixed += share * tl.load(each + at * VALUE + wide, mask=wide < VALUE, other=0.0)
    some = tl.where(total == 0.0, 1.0, total)
    tl.store(out + row * VALUE + wide, (mixed / some).to(out.dtype.element_ty), mask=wide < VALUE)
    tl.store(lse + row, tl.where(total == 0.0, float("-inf"), base + tl.log(some)))
# fmt: on
