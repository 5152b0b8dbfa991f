"""Kernelised attention with relative positions, in n log n by the FFT (NPRF).

Luo et al., "Stable, Fast and Accurate: Kernelized Attention with Relative Positional Encoding",
NeurIPS 2021, arXiv:2106.12566.

exp(q . k) is estimated by a product of random features. A learned bias of the distance, inside
exp, is then a factor of a product, and sums over keys are those of a Toeplitz matrix.

    phi(x) = exp(W x - |x|^2 / 2) / sqrt(m)         W: m rows of N(0, 1), drawn once a layer
    c_r    = exp(b_r - max b)                       b learned for each head and distance r = i - j
    o_i    = sum_j c_(i-j) (phi(q_i) . phi(k_j)) v_j  /  sum_j c_(i-j) (phi(q_i) . phi(k_j))

Queries and keys are of length one: the estimate's variance grows with exp(|q|^2 + |k|^2), and
training from scratch broke down by it. The sums are phi(q) times a convolution of c with
G_j = phi(k_j) (x) [v_j, 1], which the FFT does in n log n, a few features at a time.

Ours: `radius` is the length that queries and keys get, 1 in the paper. m is the head's size.
Distances beyond the table take its last number. c is no power of one number, so there is no state
of a fixed size: a cache has phi(k) and v, and a decoded token sums over all of them. Rows are read
by the FFT or by the plain twin, whichever multiplies less. The FFT rounds at the size of the
largest sum, so features that are not normalised are summed by the twin alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin

from lengthwise.architectures.decoder import Attention, Decoder, DecoderConfig, Rows

PATHS = ("auto", "fft", "dense")
WIDEST = 4.0
# Logarithms of features beyond these would be inf, or 0 / 0, in float32.
BOUND = 60.0
# Numbers of G that are transformed together.
TOGETHER = 1 << 24


class KernelisedConfig(DecoderConfig):
    """features: m, 0 is the head's size. distances: numbers in a head's table of biases. biased:
    False leaves them at 0. normalised: False takes queries and keys over head_dim^(1/4), as a
    softmax would have them. radius: their length, where they are normalised. path: one of PATHS."""

    model_type = "kernelised_attention"

    def __init__(
        self, features: int = 0, distances: int = 128, biased: bool = True,
        normalised: bool = True, radius: float = 1.0, path: str = "auto", **sizes: Any,
    ) -> None:  # fmt: skip
        if features < 0 or distances < 1 or not 0 < radius <= WIDEST:
            raise ValueError(
                f"features={features}, distances={distances}, radius={radius}: features are 0 (the "
                f"head's size) or more, distances 1 or more, radius above 0 and at most {WIDEST:g}"
            )
        if path not in PATHS:
            raise ValueError(f"path={path!r} is none of {', '.join(PATHS)}")
        if path == "fft" and not normalised:
            raise ValueError(
                "path='fft' rounds at the size of the largest sum, and features that are not "
                "normalised differ too much for that: take path='dense', or normalised=True"
            )
        self.features, self.distances, self.biased = features, distances, biased
        self.normalised, self.radius, self.path = normalised, radius, path
        super().__init__(**sizes)


class KernelisedMixing(Attention):
    """Attention by random features."""

    config: KernelisedConfig
    directions: Tensor

    def __init__(self, config: KernelisedConfig, layer: int) -> None:
        super().__init__(config, layer)
        heads, size = config.num_attention_heads, config.head_dim
        self.bias = nn.Parameter(torch.zeros(heads, config.distances), requires_grad=config.biased)
        self.register_buffer("directions", torch.randn(config.features or size, size))

    def read(self, query: Tensor, key: Tensor, value: Tensor, where: Rows) -> Tensor:
        # Under autocast exp would be given logarithms of three digits.
        with torch.autocast(query.device.type, enabled=False):
            return self._read(query, key, value, where)

    def _read(self, query: Tensor, key: Tensor, value: Tensor, where: Rows) -> Tensor:
        query, key = self.features_of(query), self.features_of(key)
        if where.cache is not None:
            key, value = where.cache.update(key, value, self.layer)
        if where.before or self.path(query.shape[2]) == "dense":
            return self._dense(query, key, value, where)
        return self._by_document(query, key, value, where)

    def features_of(self, x: Tensor) -> Tensor:
        """The logarithms of x's features but for a constant, float32 `[rows, heads, n, m]`."""
        config = self.config
        if config.normalised:
            x = F.normalize(wide(x), dim=-1) * config.radius
        else:
            x = wide(x) / config.head_dim**0.25
        return log_features(x, self.directions)

    def factors(self, count: int) -> Tensor:
        """c of distances 0 to count - 1, float32 `[heads, count]`."""
        within = torch.arange(count, device=self.bias.device).clamp_max(self.bias.shape[1] - 1)
        bias = wide(self.bias)
        return (bias - bias.detach().amax(-1, keepdim=True)).exp()[:, within]

    def path(self, count: int) -> str:
        """How rows of so many tokens are read."""
        asked, size = self.config.path, self.config.head_dim
        if asked != "auto" or not self.config.normalised:
            return "dense" if asked == "auto" else asked
        costs = {way: products(count, self.directions.shape[0], size, way) for way in PATHS[1:]}
        return min(costs, key=lambda way: costs[way])

    def _dense(self, query: Tensor, key: Tensor, value: Tensor, where: Rows) -> Tensor:
        distance = where.distance.clamp_min(0)
        factors = self.factors(int(distance.max()) + 1)[:, distance].transpose(0, 1)
        scores = grown(query, True) @ grown(key).mT * factors * where.seen[:, None]
        return ratio(scores @ value.to(scores.dtype), scores.sum(-1, keepdim=True)).to(value.dtype)

    def _by_document(self, query: Tensor, key: Tensor, value: Tensor, where: Rows) -> Tensor:
        rows, heads, count, size = value.shape
        parts = [x.transpose(1, 2).reshape(rows * count, heads, -1) for x in (query, key, value)]
        out = torch.empty_like(parts[2])
        for at in documents(where.begins):
            some = [part[at].transpose(1, 2) for part in parts]
            found = convolved(some[0], some[1], some[2], self.factors(at.shape[1]))
            out[at] = found.transpose(1, 2).to(out.dtype)
        return out.view(rows, count, heads, size).transpose(1, 2)


class KernelisedAttention(Decoder, GenerationMixin):
    """The decoder with kernelised attention."""

    config_class = KernelisedConfig
    attention = KernelisedMixing
    keeps_cache = True


def wide(x: Tensor) -> Tensor:
    """x in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def log_features(x: Tensor, directions: Tensor) -> Tensor:
    """log phi(x) + log sqrt(m), `[..., m]` of x `[..., d]` and directions `[m, d]`."""
    return x @ directions.to(x.dtype).mT - x.square().sum(-1, keepdim=True) / 2


def grown(logs: Tensor, queries: bool = False) -> Tensor:
    """Features of their logarithms `[..., m]`; what a query has more than its largest cancels."""
    if queries:
        logs = logs - logs.detach().amax(-1, keepdim=True)
    return logs.clamp(-BOUND, BOUND).exp()


def ratio(sums: Tensor, masses: Tensor) -> Tensor:
    """sums / masses, where a mass that rounding has eaten is no division by 0."""
    return sums / masses.clamp_min(torch.finfo(masses.dtype).tiny)


def convolved(query: Tensor, key: Tensor, value: Tensor, factors: Tensor) -> Tensor:
    """What each query of a document reads, by the FFT.

    Args:
        query: logarithms of features, `[docs, heads, n, m]`, float32 or float64.
        key: as query.
        value: `[docs, heads, n, dim]`.
        factors: c, `[heads, n]`.

    Returns:
        `[docs, heads, n, dim]`, in the dtype of query.
    """
    count, dim = value.shape[2:]
    # Twice the length, or the end of a document would come round to its beginning.
    length = 1 << (2 * count - 1).bit_length()
    query, key = grown(query, True), grown(key)
    ones = value.new_ones(*value.shape[:-1], 1)
    value = torch.cat((value, ones), -1).to(key.dtype)
    kernel = torch.fft.rfft(factors.to(key.dtype), length)[:, :, None, None]
    step = max(1, TOGETHER // (value.numel() * length // count))
    sums = torch.zeros_like(value)
    for some in torch.arange(key.shape[-1], device=key.device).split(step):
        each = key[..., some, None] * value[..., None, :]
        turned = torch.fft.rfft(each, length, dim=2) * kernel
        found = torch.fft.irfft(turned, length, dim=2)[:, :, :count]
        sums = sums + (query[..., some, None] * found).sum(-2)
    return ratio(sums[..., :dim], sums[..., dim:])


def documents(begins: Tensor) -> list[Tensor]:
    """Where the documents of rows stand in one flat row, int64 `[docs, length]` a length.

    Args:
        begins: bool `[rows, n]`.
    """
    starts = begins.flatten().nonzero()[:, 0]
    ends = torch.cat((starts[1:], starts.new_tensor([begins.numel()])))
    lengths = ends - starts
    return [
        starts[lengths == length, None] + torch.arange(length, device=starts.device)
        for length in lengths.unique().tolist()
    ]


def products(count: int, features: int, size: int, way: str) -> int:
    """Multiplications of a head over one document: a forward, without projections.

    Args:
        count: tokens.
        features: m.
        size: of the head.
        way: "fft", "dense", or "softmax" for attention with a softmax. A transform of N real
            numbers counts N log2 N.
    """
    if way == "softmax":
        return 2 * count * count * size
    if way == "dense":
        return count * count * (features + size + 1)
    length = 1 << (2 * count - 1).bit_length()
    turned = 2 * length * round(math.log2(length)) + 2 * length
    return features * (size + 1) * (turned + 2 * count)


__all__ = [
    "KernelisedAttention", "KernelisedConfig", "convolved", "documents", "log_features", "products",
]  # fmt: skip
