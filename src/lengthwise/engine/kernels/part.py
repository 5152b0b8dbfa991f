"""What a kernel is asked: keys that share a rule, and one softmax over several of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor


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

    def rows(self, rows: slice) -> Part:
        """The same for some of the queries."""
        mask = None if self.mask is None else self.mask[..., rows, :]
        mask = lower(self, rows) if self.causal else mask
        return replace(self, query=self.query[:, rows], mask=mask, causal=False)

    def keys(self, keys: slice) -> Part:
        """The same for some of the keys, of a part without a mask; all queries see them."""
        weight = None if self.log_weight is None else self.log_weight[:, keys]
        key, value = self.key[:, keys], self.value[:, keys]
        return Part(self.query, key, value, log_weight=weight)


def lower(part: Part, rows: slice = slice(None)) -> Tensor:
    """The mask bool `[queries, keys]` that a causal part stands for, of all queries or of some."""
    queries, keys = part.query.shape[1], part.key.shape[1]
    place = torch.arange(keys, device=part.query.device)
    return place <= place[keys - queries :][rows, None]


def take_rows(x: Tensor, ids: Tensor) -> Tensor:
    """Copies some rows of each head.

    `gather` looks up every number by an index of its own; here each row is one copy.

    x: `[heads, n, ...]`. ids: int64 `[heads, m]`.
    Returns `[heads, m, ...]`.
    """
    heads, inner = len(x), x[0, 0].numel() if x.numel() else 0
    if not inner or not x[0, 0].is_contiguous() or x.stride(1) != inner or x.stride(0) % inner:
        wide = ids.view(*ids.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
        return x.gather(1, wide)
    apart = x.stride(0) // inner
    # The heads of a store lie in one piece of memory, with the room of each behind it.
    every = x.as_strided(((heads - 1) * apart + x.shape[1], inner), (inner, 1))
    where = ids + torch.arange(heads, device=ids.device)[:, None] * apart
    return every.index_select(0, where.flatten()).view(*ids.shape, *x.shape[2:])


@dataclass(frozen=True)
class Chosen:
    """Some keys out of many, read where they lie; `part` copies them.

    query: `[heads, queries, head_dim]`, already rotated.
    key, value: `[key_heads, keys, ...]`, all that are held.
    ids: int64, those that are read: `[m]` or `[1, m]` for all heads, `[key_heads, m]` or
        `[heads, m]`.
    mask: bool, True where visible, broadcastable to `[heads, queries, m]`, or None.
    log_weight: float32 `[key_heads, keys]`, or None, as in `Part`.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    ids: Tensor
    mask: Tensor | None = None
    log_weight: Tensor | None = None

    def __len__(self) -> int:
        return self.ids.shape[-1]

    def rows(self, rows: slice) -> Chosen:
        """The same for some of the queries."""
        mask = None if self.mask is None else self.mask[..., rows, :]
        return replace(self, query=self.query[:, rows], mask=mask)

    def part(self) -> Part:
        """The keys copied; with a key head a query head where each of these has ids."""
        weight = None if self.log_weight is None else self._taken(self.log_weight)
        key, value = self._taken(self.key), self._taken(self.value)
        return Part(self.query, key, value, self.mask, log_weight=weight)

    def _taken(self, x: Tensor) -> Tensor:
        ids = self.ids if self.ids.dim() == 2 else self.ids[None]
        if len(ids) == 1:
            return take_rows(x, ids.expand(len(x), -1))
        return take_rows(x, ids.reshape(len(x), -1)).reshape(*ids.shape, *x.shape[2:])


@dataclass(frozen=True)
class Codes:
    """Numbers `[heads, n, channels]` in few bits: a number is minimum + scale code.

    codes: uint8 `[heads, n, bytes]`, codes of neighbouring channels in one byte, the first in its
        lowest bits; or int8 `[heads, n, channels]`, which have no minimum.
    scale, minimum: `[heads, n / tokens, channels / each]`: one for so many tokens and channels.
    """

    codes: Tensor
    scale: Tensor
    minimum: Tensor | None
    bits: int
    tokens: int
    each: int
    channels: int

    def decode(self) -> Tensor:
        """The numbers in float32: the plain twin of what kernels and codecs do."""
        codes = self.codes
        if self.minimum is not None:
            places = torch.arange(0, 8, self.bits, dtype=torch.uint8, device=codes.device)
            codes = (codes[..., None] >> places & (1 << self.bits) - 1).flatten(2)
        wide = [
            x.float().repeat_interleave(self.tokens, 1).repeat_interleave(self.each, 2)
            for x in (self.scale, self.minimum)
            if x is not None
        ]
        found = codes[..., : self.channels].float() * wide[0]
        return found if self.minimum is None else found + wide[1]


@dataclass(frozen=True)
class Coded:
    """Entries of a codec that all queries see, read as they are stored; `part` decodes them.

    query: `[heads, queries, channels of a key]`, already rotated.
    decode: gives key and value `[key_heads, keys, ...]` in the dtype of the query.
    """

    query: Tensor
    key: Codes
    value: Codes
    decode: Callable[[], tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return self.key.codes.shape[1]

    def rows(self, rows: slice) -> Coded:
        """The same for some of the queries."""
        return replace(self, query=self.query[:, rows])

    def part(self) -> Part:
        """The entries decoded."""
        return Part(self.query, *self.decode())


@dataclass(frozen=True)
class Asked:
    """One softmax over the keys of all parts, none of which is empty.

    scaling multiplies the logits; softcap c replaces a logit x by c tanh(x / c) (gemma 2);
    sinks `[heads]` are learned logits that take weight and give no value (gpt_oss).
    need_lse: whether the LSE is wanted beside the output.
    """

    parts: Sequence[Part]
    scaling: float
    softcap: float | None = None
    sinks: Tensor | None = None
    need_lse: bool = False


# The output `[heads, queries, value_dim]` in the dtype of the values, and the log-sum-exp of the
# logits, float32 `[heads, queries]`, where it was wanted (else None where it costs something).
Answer = tuple[Tensor, Tensor | None]


# Parts that are read as they are stored, by a kernel of their own.
Stored = Chosen | Coded


@dataclass(frozen=True)
class Tempered:
    """Parts that share a temperature T, and weigh otherwise than one softmax would have it.

    Their logits z are divided by T. Their joint LSE times `lse_scale` takes its place where they
    are merged with other parts, so a key has the logit z / T + (lse_scale - 1) LSE. The LSE is that
    of the logits as they are: it is not the same after a constant is added to all of them.

    parts: at least one of them has keys; every query sees one.
    """

    parts: Sequence[Part | Stored]
    temperature: float = 1.0
    lse_scale: float = 1.0

    @property
    def query(self) -> Tensor:
        """`[heads, queries, head_dim]`."""
        return self.parts[0].query

    def __len__(self) -> int:
        return sum(p.key.shape[1] if isinstance(p, Part) else len(p) for p in self.parts)

    def rows(self, rows: slice) -> Tempered:
        """The same for some of the queries."""
        return replace(self, parts=[part.rows(rows) for part in self.parts])


class DistanceBias(Protocol):
    """What is added to a logit for how far apart query and key are."""

    def __call__(self, distance: Tensor) -> Tensor:
        """
        Args:
            distance: tokens between them, int64 `[queries, keys]`, none below 0.

        Returns:
            float32 `[heads, queries, keys]`.
        """
        ...


@dataclass(frozen=True)
class Biased:
    """A part with a bias of distance on its logits, which no kernel knows: scores are made.

    query_index, key_index: int64 `[queries]` and `[keys]`, whose difference is the distance.
    """

    part: Part
    query_index: Tensor
    key_index: Tensor
    bias: DistanceBias

    @property
    def query(self) -> Tensor:
        """`[heads, queries, head_dim]`."""
        return self.part.query

    def __len__(self) -> int:
        return self.part.key.shape[1]

    def rows(self, rows: slice) -> Biased:
        """The same for some of the queries."""
        return replace(self, part=self.part.rows(rows), query_index=self.query_index[rows])

    def added(self) -> Tensor:
        """What is added to the logits, float32 `[heads, queries, keys]`."""
        return self.bias((self.query_index[:, None] - self.key_index[None]).clamp_min_(0))


# What one softmax may be over.
AnyPart = Part | Stored | Tempered | Biased


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """`[key_heads, ...]` -> `[heads, ...]`: a copy of its key head for every query head."""
    if x.shape[0] == heads:
        return x
    return x.repeat_interleave(heads // x.shape[0], dim=0)


__all__ = [
    "Answer", "AnyPart", "Asked", "Biased", "Chosen", "Coded", "Codes", "DistanceBias", "Part",
    "Stored", "Tempered", "lower", "repeat_heads", "take_rows",
]  # fmt: skip
