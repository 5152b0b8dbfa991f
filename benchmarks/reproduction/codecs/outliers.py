"""Outliers in full precision beside KIVI, as KVQuant keeps them: whether they pay at equal bytes.

Hooper et al., "KVQuant", NeurIPS 2024, arXiv:2401.18079, leave out the numbers that lie farthest
outside their vector and store them apart: 2 bytes for a number, 2 for its place. Scales are then
those of the rest. Here it is asked of KIVI's groups. More bytes for outliers are fewer for scales,
so groups are larger. The error is that of attention's output, norm over norm, for the last 64
queries, mean over layers; keys and values are those of full attention, the newest 128 plain.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from benchmarks.reproduction.book import moby_dick
from benchmarks.reproduction.harness import Found, check, encode, load
from torch import Tensor

from lengthwise.engine.kernels.part import Asked, Part
from lengthwise.engine.kernels.plain import plain
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill

# Tokens that are read, those at the end that stay plain, and queries that are looked at.
LENGTH, RESIDUAL, QUERIES = 1664, 128, 64
# Bytes of an outlier, and of the scale and minimum of a group.
OUTLIER, SCALES = 4, 4
GROUPS = (32, 64)


def share_of(bits: int, group: int, budget: float) -> float:
    """The share of outliers that costs, with larger groups, as many bytes a number as `budget`."""
    return (budget - bits / 8 - SCALES / group) / OUTLIER


def stored(x: Tensor, bits: int, group: int, share: float, by_channel: bool) -> Tensor:
    """x `[heads, n, d]` as it is read back: quantised in groups of tokens (by channel) or of
    channels, all but a share of outliers, those farthest from the middle of their vector's range.
    """
    rows = x.mT if by_channel else x
    size = min(group, rows.shape[-1])
    wide = rows.float()
    middle = wide.median(-1, keepdim=True).values
    spread = (wide - middle).abs()
    if by_channel:
        spread = spread / spread.mean(-1, keepdim=True).clamp_min(1e-9)
    count = round(share * wide.numel())
    out = torch.zeros(wide.numel(), dtype=torch.bool)
    if count:
        out[spread.flatten().topk(count).indices] = True
    out = out.view_as(wide)
    low, high = (
        wide.masked_fill(out, bad).unflatten(-1, (-1, size)) for bad in (torch.inf, -torch.inf)
    )
    least, most = low.amin(-1, keepdim=True), high.amax(-1, keepdim=True)
    # A group of outliers alone has no scale, and needs none.
    least, most = (t.nan_to_num(0.0, 0.0, 0.0) for t in (least, most))
    step = ((most - least) / (2**bits - 1)).clamp_min(1e-9)
    codes = ((wide.unflatten(-1, (-1, size)) - least) / step).round().clamp(0, 2**bits - 1)
    found = torch.where(out, wide, (codes * step + least).flatten(-2))
    return (found.mT if by_channel else found).to(x.dtype)


@check({"bits": "d", "group": "d", "outliers": ".4f", "bytes a number": ".3f",
        "error, keys alone": ".4f", "error, values alone": ".4f", "error": ".4f"})  # fmt: skip
def outliers() -> Iterator[Found]:
    """KIVI's groups of 32 without outliers, and larger ones with as many as the bytes allow."""
    loaded = load("bfloat16")
    model = loaded.adapted
    sequence = Sequence(model, remember=QUERIES)
    prefill(sequence, encode(loaded, moby_dick())[20_000 : 20_000 + LENGTH])
    for bits in (2, 4):
        budget = bits / 8 + SCALES / GROUPS[0]
        for group in GROUPS:
            share = share_of(bits, group, budget)
            errors = [
                _errors(sequence, layer, bits, group, share) for layer in range(len(model.layers))
            ]
            keys, values, both = torch.tensor(errors).mean(0).tolist()
            yield {
                "bits": bits, "group": group, "outliers": round(share, 4),
                "bytes a number": budget, "error, keys alone": round(keys, 4),
                "error, values alone": round(values, 4), "error": round(both, 4),
            }  # fmt: skip


def _errors(
    sequence: Sequence, index: int, bits: int, group: int, share: float
) -> tuple[float, float, float]:
    """Of one layer, with keys stored, values stored, and both."""
    layer = sequence.layers[index]
    held, query = layer.groups[0].near.tail, layer.last_queries()
    assert held is not None and query is not None
    old = len(held) - RESIDUAL
    key, value = held.key.clone(), held.value.clone()
    key[:, :old] = stored(held.key[:, :old], bits, group, share, True)
    value[:, :old] = stored(held.value[:, :old], bits, group, share, False)
    outs = []
    for k, v in ((held.key, held.value), (key, held.value), (held.key, value), (key, value)):
        part = Part(query.float(), k.float(), v.float(), causal=True)
        outs.append(plain(Asked([part], layer.facts.scaling))[0])
    norm = outs[0].norm()
    keys, values, both = (float((out - outs[0]).norm() / norm) for out in outs[1:])
    return keys, values, both
