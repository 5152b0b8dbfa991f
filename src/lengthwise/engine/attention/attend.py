"""The one primitive: exact attention over a list of parts, merged by their log-sum-exp.

Almost every long-context method decides which keys a block of queries sees, at which positions and
with which weight, inside one softmax. Here is the only place that multiplies queries by keys. A
part is a set of keys that share one rule. Its partial result o_p carries its log-sum-exp (LSE), and
the softmax over all of them is

    o = sum_p exp(lse_p - lse) o_p,   lse = log sum_p exp(lse_p)

Which kernel does it was timed on this machine (`kernels.choice`). `kernels.plain` is the readable
twin that materialises every score; tests compare each kernel with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lengthwise.engine.kernels import dequantise, flash, gather, tree, varlen
from lengthwise.engine.kernels.attempts import attempt
from lengthwise.engine.kernels.choice import order
from lengthwise.engine.kernels.kernel import answer
from lengthwise.engine.kernels.merge import merge
from lengthwise.engine.kernels.part import (
    Answer,
    AnyPart,
    Asked,
    Biased,
    Chosen,
    Part,
    Stored,
    Tempered,
)
from lengthwise.engine.kernels.plain import logits, plain
from lengthwise.engine.kernels.products import (
    SCORE_BLOCK,
    one_softmax,
    row_products,
    value_products,
)


def attend(
    parts: Sequence[AnyPart],
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    need_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """One softmax over the keys of all parts.

    Args:
        parts: at least one of them has keys; every query sees a key of some part. Those that are
            read as they are stored go to a kernel of their own, and are copied where it fails.
            Those with a temperature are a softmax of their own, whose LSE is scaled; the scores of
            those with a bias are made.
        scaling: multiplies the logits.
        softcap: c replaces a logit x by c tanh(x / c) (gemma 2).
        sinks: `[heads]`, learned logits that take weight and give no value (gpt_oss).
        need_lse: whether the LSE is wanted.

    Returns:
        The output `[heads, queries, value_dim]` in the dtype of the values, and the LSE
            `[heads, queries]` in float32 where `need_lse` (else None where it was not needed).
    """
    direct: list[Part] = []
    results: list[Answer] = []
    for part in parts:
        if isinstance(part, Tempered):
            if len(part):
                results.append(_tempered(part, scaling, softcap))
            continue
        if isinstance(part, Biased):
            if len(part):
                results.append(biased(part, scaling, softcap))
            continue
        if not isinstance(part, Part):
            found = _stored(part, scaling, softcap) if len(part) else None
            if found is not None:
                results.append(found)
                continue
            part = part.part()
        if part.key.shape[1]:
            direct.append(part)
    if not results:
        return answer(Asked(direct, scaling, softcap, sinks, need_lse))
    if direct:
        results.append(answer(Asked(direct, scaling, softcap, None, True)))
    return results[0] if len(results) == 1 and sinks is None else merge(results, sinks)


def _tempered(part: Tempered, scaling: float, softcap: float | None) -> Answer:
    """Any kernel serves: the temperature is a matter of the scaling, and the LSE is scaled here, in
    float32. As in flash kernels, logits are softcapped after that."""
    out, lse = attend(part.parts, scaling / part.temperature, softcap, need_lse=True)
    assert lse is not None
    return out, lse * part.lse_scale


def biased(part: Biased, scaling: float, softcap: float | None = None) -> Answer:
    """Scores in float32 with the bias added, as many queries at a time as memory is meant for.

    Args:
        part: with keys.
        scaling: multiplies the logits.
        softcap: c replaces a logit x by c tanh(x / c), before the bias.
    """
    heads, queries, _ = part.query.shape
    step = max(1, SCORE_BLOCK // (heads * len(part)))
    value = part.part.value
    outs, lses = [], []
    for start in range(0, queries, step):
        some = part.rows(slice(start, start + step))
        scores = logits(some.part, scaling, softcap) + some.added()
        lse = torch.logsumexp(scores, -1)
        weights = torch.exp(scores - lse[..., None]).nan_to_num_(0.0).to(value.dtype)
        out = torch.matmul(weights.reshape(len(value), -1, len(part)), value)
        outs.append(out.view(heads, -1, value.shape[-1]))
        lses.append(lse)
    return torch.cat(outs, 1), torch.cat(lses, 1)


def _stored(part: Stored, scaling: float, softcap: float | None) -> Answer | None:
    """By the kernel for what is read as it is stored; None where that fails."""
    if isinstance(part, Chosen):
        return gather.attend(part, scaling, softcap)
    return dequantise.attend(part, scaling, softcap)


class SingleSoftmax:
    """Attention of one part alone, all of whose keys every row sees, in the fewest calls.

    It is called at every step of a layer, so it holds which kernel serves until the number of keys
    has doubled.
    """

    def __init__(self) -> None:
        self._size = 0
        self._kernel = ""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """
        Args:
            query: `[key_heads, rows, head_dim]`, the heads of a group as so many rows.
            key: `[key_heads, keys, head_dim]`.
            value: `[key_heads, keys, value_dim]`.
            scaling: multiplies the logits.

        Returns:
            `[key_heads, rows, value_dim]`.
        """
        size = key.shape[1].bit_length()
        if size != self._size:
            self._size, self._kernel = size, _step_kernel(query, key, value)
        if self._kernel == "flash":
            out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[None], key[None], value[None], 0.0, False, attn_mask=None, scale=scaling
            )[0]
            return out[0]
        if self._kernel == "varlen":
            # Rows that see all keys are as many heads of one query each: a form the kernel splits.
            one = query.reshape(-1, 1, query.shape[-1])
            return varlen.flash(one, key, value, False, scaling)[0].reshape(query.shape)
        if self._kernel == "plain":
            return plain(Asked([Part(query, key, value)], scaling))[0]
        return one_softmax(query, key, value, scaling)


def _step_kernel(query: Tensor, key: Tensor, value: Tensor) -> str:
    """The best that can serve."""
    can = {"flash": flash.can(query, value), "varlen": varlen.can(query, key, value)}
    return next(name for name in order("step", query, key) if can.get(name, True))


def single_softmax(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """`SingleSoftmax`, once."""
    return SingleSoftmax()(query, key, value, scaling)


def tree_softmax(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, hidden: Tensor
) -> Tensor:
    """`single_softmax` for n new tokens that see all keys but some of their own, the last n.

    query `[key_heads, heads of a group * n, head_dim]`; hidden: bool `[n, n]`, True where a new
    token must not look.
    """
    each = query.reshape(-1, len(hidden), query.shape[-1])
    by_products = partial(_tree_by_products, query, key, value, scaling, hidden)
    if _by_triton(each, key, value):
        found = attempt(
            tree.NAME, each, key,
            lambda: tree.attend_spans(each, key, value, scaling, hidden=hidden),
            lambda: (by_products().view(*each.shape[:2], -1), None),
        )  # fmt: skip
        if found is not None:
            return found[0].view(*query.shape[:2], -1)
    return by_products()


def _tree_by_products(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, hidden: Tensor
) -> Tensor:
    scores = row_products(query * scaling, key)
    own = scores.view(-1, len(hidden), key.shape[1])[..., -len(hidden) :]
    own.masked_fill_(hidden, -math.inf)
    return value_products(torch.softmax(scores, -1), value)


def _by_triton(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether Triton serves a tree, query `[heads, n, d]`: of the kernels that know its mask."""
    if not tree.can(query, key, value):
        return False
    names = order("block", query, key)
    return names.index(tree.NAME) < names.index("products")


def joint_softmax(
    parts: Sequence[tuple[Tensor, Tensor, Tensor]], scaling: float, hidden: Tensor | None = None
) -> Tensor:
    """`single_softmax` over several parts (query, key, value), or with `hidden` `tree_softmax`, the
    new tokens being the last keys of the last part."""
    if len(parts) == 1 and hidden is None:
        return single_softmax(*parts[0], scaling)
    scores = torch.cat([row_products(query * scaling, key) for query, key, _ in parts], -1)
    if hidden is not None:
        own = scores.view(-1, len(hidden), scores.shape[-1])[..., -len(hidden) :]
        own.masked_fill_(hidden, -math.inf)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(parts[0][2].dtype)
    each = weights.split([key.shape[1] for _, key, _ in parts], -1)
    out = value_products(each[0], parts[0][2])
    for weight, (_, _, value) in zip(each[1:], parts[1:], strict=True):
        out.baddbmm_(weight, value)
    return out


__all__ = [
    "Part", "SingleSoftmax", "Stored", "Tempered", "attend", "joint_softmax", "merge",
    "single_softmax", "tree_softmax",
]  # fmt: skip
