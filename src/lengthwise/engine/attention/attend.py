"""The one primitive: exact attention over a list of parts, merged by their log-sum-exp.

Almost every long-context method decides which keys a block of queries sees, at which positions and
with which weight, inside one softmax. Here is the only place that multiplies queries by keys. A
part is a set of keys that share one rule. Its partial result o_p carries its log-sum-exp (LSE), and
the softmax over all of them is

    o = sum_p exp(lse_p - lse) o_p,   lse = log sum_p exp(lse_p)

`scores.attend_plain` is the readable twin that materialises every score; tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.engine.attention import device_flash

# With at most this many rows (queries x heads of a group) over more than MANY_KEYS keys, batched
# products beat the CPU flash kernel; with fewer keys their overhead is the larger part.
FEW_ROWS = 16
MANY_KEYS = 1024
# Scores that `_by_rows` holds at a time: a few megabytes, which stay in the last-level cache.
ROW_BLOCK = 1 << 21
# Scores of the plain path are materialised at most this many numbers at a time.
SCORE_BLOCK = 1 << 24


@dataclass(frozen=True)
class Part:
    """Keys that a block of queries sees under one rule.

    query: `[heads, queries, head_dim]`, already rotated for this part.
    key: `[key_heads, keys, head_dim]`; `key_heads` divides `heads`, query head `h` reads
        key head `h // (heads // key_heads)`.
    value: `[key_heads, keys, value_dim]`.
    mask: bool, True where visible, broadcastable to `[heads, queries, keys]` (leading dimension 1
        or heads, or absent); None when all keys are visible to all queries.
    causal: of n queries over m >= n keys, query t sees keys 0..m - n + t; needs no mask.
    log_weight: float32 `[key_heads, keys]`, added to the logits: an entry standing for N tokens
        carries log N.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None = None
    causal: bool = False
    log_weight: Tensor | None = None


def attend(
    parts: Sequence[Part],
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    need_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """One softmax over the keys of all parts.

    scaling multiplies the logits; softcap c replaces a logit x by c tanh(x / c) (gemma 2);
    sinks `[heads]` are learned logits that take weight and give no value (gpt_oss).
    Returns the output `[heads, queries, value_dim]` in the dtype of the values, and the LSE
    `[heads, queries]` in float32 where `need_lse` (else None when it was not needed).
    """
    parts = [part for part in parts if part.key.shape[1]]
    query = parts[0].query
    several = query.shape[1] > 1 or len(parts) > 1
    if several and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        return _by_rows(parts, scaling, softcap, sinks, need_lse)
    parts = [piece for part in parts for piece in _pieces(part, softcap)]
    if len(parts) == 1 and sinks is None:
        return _one(parts[0], scaling, softcap, need_lse)
    results = [_one(part, scaling, softcap, True) for part in parts]
    if sinks is None and not need_lse:
        return _mix(results), None
    return merge(results, sinks)


def _on_device(part: Part, softcap: float | None) -> bool:
    """Whether the GPU's flash kernel takes this part as it is."""
    return (
        part.mask is None
        and softcap is None
        and part.log_weight is None
        and device_flash.serves(part.query, part.key, part.value)
    )


def _pieces(part: Part, softcap: float | None) -> list[Part]:
    """A causal part as the keys that every query sees and a square causal rest, for the kernels
    that know no other."""
    before = part.key.shape[1] - part.query.shape[1]
    if not part.causal or not before or _on_device(part, softcap):
        return [part]
    weight = part.log_weight
    return [
        Part(part.query, part.key[:, :before], part.value[:, :before], None, False,
             None if weight is None else weight[:, :before]),
        Part(part.query, part.key[:, before:], part.value[:, before:], None, True,
             None if weight is None else weight[:, before:]),
    ]  # fmt: skip


def _by_rows(
    parts: Sequence[Part],
    scaling: float,
    softcap: float | None,
    sinks: Tensor | None,
    need_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    """One softmax over the joined scores of all parts, a few queries at a time.

    A block of scores stays in cache between its products and its softmax. In bfloat16 on CPUs with
    such instructions this reads 8,192 keys 2.5 times faster than the flash kernel, and parts need
    no merging. Sinks are one more column.
    """
    heads, queries, _ = parts[0].query.shape
    keys = sum(part.key.shape[1] for part in parts)
    step = max(16, min(ROW_BLOCK // (heads * keys), queries))
    outs, lses = [], []
    for start in range(0, queries, step):
        rows = slice(start, min(start + step, queries))
        scores = [_row_scores(part, rows, scaling, softcap) for part in parts]
        widths = [score.shape[-1] for score in scores]
        if sinks is not None:
            scores.append(
                sinks.to(scores[0].dtype)[:, None, None].expand(-1, scores[0].shape[1], 1)
            )
        joined = torch.cat(scores, -1) if len(scores) > 1 else scores[0]
        if need_lse:
            lses.append(torch.logsumexp(joined.float(), -1))
        weights = torch.softmax(joined, -1).split([*widths, joined.shape[-1] - sum(widths)], -1)
        out: Tensor | None = None
        for part, weight in zip(parts, weights, strict=False):
            key_heads, width = part.key.shape[0], weight.shape[-1]
            folded = weight.reshape(key_heads, -1, width)
            value = torch.bmm(folded, part.value[:, :width])
            out = value if out is None else out.view_as(value).add_(value)
            out = out.view(heads, rows.stop - rows.start, -1)
        assert out is not None
        outs.append(out)
    out = outs[0] if len(outs) == 1 else torch.cat(outs, 1)
    return out, torch.cat(lses, 1) if need_lse else None


def _row_scores(part: Part, rows: slice, scaling: float, softcap: float | None) -> Tensor:
    """Masked logits of some queries of a part, `[heads, rows, keys]` in the dtype of the
    queries."""
    heads, count = part.query.shape[0], rows.stop - rows.start
    before = part.key.shape[1] - part.query.shape[1]
    key = part.key[:, : before + rows.stop] if part.causal else part.key
    query = (part.query[:, rows] * scaling).reshape(part.key.shape[0], -1, part.query.shape[-1])
    scores = _scores(query, key).view(heads, count, -1)
    if softcap is not None or part.log_weight is not None:
        weight = None if part.log_weight is None else repeat_heads(part.log_weight, heads)
        weight = None if weight is None else weight[:, : key.shape[1]]
        exact = scores.float()
        if softcap is not None:
            exact = exact.div_(softcap).tanh_().mul_(softcap)
        scores = (exact if weight is None else exact.add_(weight[:, None])).to(scores.dtype)
    if part.causal:
        hidden = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu_(1)
        scores[..., before + rows.start :].masked_fill_(hidden, -math.inf)
    elif part.mask is not None:
        scores.masked_fill_(~part.mask[..., rows, :], -math.inf)
    return scores


def _mix(results: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor:
    """`merge` where nobody wants the LSE; every query sees a key of some part."""
    lses = torch.stack([lse for _, lse in results if lse is not None])
    return _weighted(results, torch.softmax(lses, 0))


def merge(
    results: Sequence[tuple[Tensor, Tensor | None]], sinks: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Merges partial outputs `[heads, queries, value_dim]` by their LSE `[heads, queries]`."""
    lses = torch.stack([lse for _, lse in results if lse is not None])
    total = torch.logsumexp(lses, 0)
    if sinks is not None:
        total = torch.logaddexp(total, sinks.float()[:, None])
    return _weighted(results, torch.exp(lses - total).nan_to_num_(0.0)), total


def _weighted(results: Sequence[tuple[Tensor, Tensor | None]], weights: Tensor) -> Tensor:
    """Sum of partial outputs by weights float32 `[parts, heads, queries]`."""
    weights = weights.unsqueeze(-1)
    out = results[0][0].float() * weights[0]
    for (partial, _), weight in zip(results[1:], weights[1:], strict=True):
        out.addcmul_(partial.float(), weight)
    return out.to(results[0][0].dtype)


def _one(
    part: Part, scaling: float, softcap: float | None, need_lse: bool
) -> tuple[Tensor, Tensor | None]:
    heads, queries, head_dim = part.query.shape
    if _on_device(part, softcap):
        return device_flash.flash(part.query, part.key, part.value, part.causal, scaling)
    flash = (
        softcap is None
        and part.log_weight is None
        and part.query.device.type == "cpu"
        and head_dim == part.value.shape[-1]
        and part.query.dtype != torch.float16
    )
    if part.mask is None and not part.causal:
        # All keys visible: the heads of a group are so many more queries of one key head.
        rows = queries * (heads // part.key.shape[0])
        folded = part.query.reshape(part.key.shape[0], rows, head_dim)
        if not flash or (rows <= FEW_ROWS and part.key.shape[1] > MANY_KEYS):
            out, lse = _products(folded, part, None, scaling, softcap, need_lse)
        else:
            out, lse = _flash(folded, part.key, part.value, None, False, scaling)
        out = out.reshape(heads, queries, -1)
        return out, None if lse is None else lse.reshape(heads, queries)
    if part.causal and flash:
        key, value = repeat_heads(part.key, heads), repeat_heads(part.value, heads)
        return _flash(part.query, key, value, None, True, scaling)
    mask = part.mask
    if mask is None:
        mask = torch.ones(queries, queries, dtype=torch.bool, device=part.query.device).tril_()
    if flash and queries > FEW_ROWS and mask.dim() == 2:
        key, value = repeat_heads(part.key, heads), repeat_heads(part.value, heads)
        return _flash(part.query, key, value, mask, False, scaling)
    groups = heads // part.key.shape[0]
    folded = part.query.reshape(part.key.shape[0], groups * queries, head_dim)
    if mask.dim() == 2 or mask.shape[0] == 1:
        mask = mask.reshape(1, 1, queries, -1).expand(part.key.shape[0], groups, -1, -1)
    mask = mask.reshape(part.key.shape[0], groups * queries, -1)
    out, lse = _products(folded, part, mask, scaling, softcap, need_lse)
    out = out.reshape(heads, queries, -1)
    return out, None if lse is None else lse.reshape(heads, queries)


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """`[key_heads, ...]` -> `[heads, ...]`: a copy of its key head for every query head."""
    if x.shape[0] == heads:
        return x
    return x.repeat_interleave(heads // x.shape[0], dim=0)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scaling: float
) -> tuple[Tensor, Tensor]:
    """The CPU flash kernel, which also returns the LSE. A row that sees nothing has LSE -inf."""
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
        bias = bias.masked_fill_(~mask, -math.inf)[None, None]
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query[None], key[None], value[None], 0.0, causal, attn_mask=bias, scale=scaling
    )
    out, lse = out[0], lse[0].float()
    if mask is not None:
        blind = ~mask.any(-1)
        lse = lse.masked_fill(blind, -math.inf)
        out = out.masked_fill(blind[:, None], 0.0)
    return out, lse


def _products(
    folded: Tensor,
    part: Part,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None,
    need_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    """Plain products, in blocks of rows so that scores stay within SCORE_BLOCK numbers."""
    key_heads, rows, _ = folded.shape
    step = max(1, SCORE_BLOCK // max(1, key_heads * part.key.shape[1]))
    if not need_lse and softcap is None and part.log_weight is None and rows <= step:
        return single_softmax(folded, part.key, part.value, scaling, mask), None
    outs, lses = [], []
    for start in range(0, rows, step):
        scores = _scores(folded[:, start : start + step], part.key).float()
        scores = _adjust(scores.mul_(scaling), part, softcap)
        if mask is not None:
            scores = scores.masked_fill_(~mask[:, start : start + step], -math.inf)
        top = scores.amax(-1, keepdim=True)
        if mask is not None:
            top = top.clamp_min(torch.finfo(torch.float32).min)
        scores = scores.sub_(top).exp_()
        total = scores.sum(-1, keepdim=True)
        out = torch.matmul(scores.to(part.value.dtype), part.value)
        # Dividing after the product keeps the probabilities at full precision in bf16.
        outs.append(out.div_(total.clamp_min(1e-30).to(out.dtype)))
        lses.append((total.log() + top).squeeze(-1))
    if len(outs) == 1:
        return outs[0], lses[0]
    return torch.cat(outs, 1), torch.cat(lses, 1)


def _scores(rows: Tensor, key: Tensor) -> Tensor:
    """Products of rows `[key_heads, rows, head_dim]` with keys: `[key_heads, rows, keys]`."""
    if rows.device.type != "cpu":
        return torch.bmm(rows, key.transpose(1, 2))
    if rows.shape[1] <= FEW_ROWS:
        # As the narrow right-hand side they are several times faster than as a flat left-hand side.
        return torch.bmm(key, rows.transpose(1, 2)).transpose(1, 2).contiguous()
    if rows.dtype != torch.bfloat16:
        return torch.bmm(rows, key.transpose(1, 2))
    # A batched product in bfloat16 copies transposed keys; one head at a time reads them in place.
    out = rows.new_empty(rows.shape[0], rows.shape[1], key.shape[1])
    for head in range(len(rows)):
        torch.mm(rows[head], key[head].t(), out=out[head])
    return out


def single_softmax(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, mask: Tensor | None = None
) -> Tensor:
    """Attention of one part alone, in the fewest calls: query `[key_heads, rows, head_dim]`, key
    and value `[key_heads, keys, ...]` -> `[key_heads, rows, value_dim]`. Every row must see a
    key."""
    plain = mask is None and query.shape[-1] == value.shape[-1] and query.dtype != torch.float16
    if plain and key.shape[1] <= MANY_KEYS and query.device.type == "cpu":
        return _flash(query, key, value, None, False, scaling)[0]
    if plain and query.shape[1] <= FEW_ROWS and device_flash.serves(query, key, value):
        # Rows that see all keys are as many heads of one query each: a form the kernel splits.
        one = query.reshape(-1, 1, query.shape[-1])
        return device_flash.flash(one, key, value, False, scaling)[0].reshape(query.shape)
    scores = _scores(query * scaling, key)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -math.inf)
    weights = torch.softmax(scores, -1, dtype=torch.float32)
    return torch.bmm(weights.to(value.dtype), value)


def tree_softmax(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, hidden: Tensor
) -> Tensor:
    """`single_softmax` for n new tokens that see all keys but some of their own, the last n.

    query `[key_heads, heads of a group * n, head_dim]`; hidden: bool `[n, n]`, True where a new
    token must not look.
    """
    scores = _scores(query * scaling, key)
    own = scores.view(-1, len(hidden), key.shape[1])[..., -len(hidden) :]
    own.masked_fill_(hidden, -math.inf)
    return torch.bmm(torch.softmax(scores, -1), value)


def joint_softmax(parts: Sequence[tuple[Tensor, Tensor, Tensor]], scaling: float) -> Tensor:
    """`single_softmax` over several parts (query, key, value), whose keys all are visible."""
    if len(parts) == 1:
        return single_softmax(*parts[0], scaling)
    scores = torch.cat([_scores(query * scaling, key) for query, key, _ in parts], -1)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(parts[0][2].dtype)
    each = weights.split([key.shape[1] for _, key, _ in parts], -1)
    out = torch.bmm(each[0], parts[0][2])
    for weight, (_, _, value) in zip(each[1:], parts[1:], strict=True):
        out.baddbmm_(weight, value)
    return out


def _adjust(scores: Tensor, part: Part, softcap: float | None) -> Tensor:
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    if part.log_weight is not None:
        scores = scores.add_(part.log_weight[:, None])
    return scores


__all__ = ["Part", "attend", "joint_softmax", "merge", "single_softmax", "tree_softmax"]
