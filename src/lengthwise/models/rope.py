"""Rotary positions of any family, as one rule learned from the family itself.

`probe.py` asks a model what its rotation does to each channel; the answer is a `Pairing`. With it a
rotation is `x * cos + x[partner] * (sign * sin)` for every layout in use (halves, interleaved,
first or last channels only). Frequencies can be replaced by a rule (PI, NTK, YaRN, ...), and angles
are always computed in float32: bf16 angles give logit errors of 0.3 and more from position 500.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Angles = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Pairing:
    """What one rotation does to the channels of a head of `head_dim`.

    partner: int64 `[head_dim]`, the channel that each channel is mixed with.
    sign: `[head_dim]`, -1 or 1, the sign of the partner's term; 0 where a channel is not rotated.
    cos_of, sin_of: int64 `[head_dim]`, which column of the family's cos and sin drives a channel.
    halves: partner is simply the other half of the head, the layout of llama.
    """

    partner: Tensor
    sign: Tensor
    cos_of: Tensor
    sin_of: Tensor
    halves: bool

    @property
    def rotated(self) -> Tensor:
        """Bool `[head_dim]`: the channels that depend on the position."""
        return self.sign != 0

    def spread(self, cos: Tensor, sin: Tensor) -> Angles:
        """Family's cos and sin `[n, columns]` -> full-width `[n, head_dim]`, sign folded in."""
        rotated = self.rotated
        full_cos = torch.where(rotated, cos[:, self.cos_of], torch.ones_like(cos[:, :1]))
        full_sin = sin[:, self.sin_of] * self.sign.to(sin.dtype)
        return full_cos.contiguous(), full_sin.contiguous()

    def rotate(self, x: Tensor, angles: Angles) -> Tensor:
        """Rotates x `[heads, n, head_dim]` by angles `[n, head_dim]` or `[heads, n, head_dim]`."""
        cos, sin = angles
        if self.halves:
            swapped = torch.roll(x, x.shape[-1] // 2, -1)
        else:
            swapped = x.index_select(-1, self.partner)
        return torch.addcmul(x * cos, swapped, sin)

    def inverse(self, x: Tensor, angles: Angles) -> Tensor:
        """Undoes `rotate` (for angles without an amplitude)."""
        cos, sin = angles
        return self.rotate(x, (cos, -sin))


@dataclass(frozen=True)
class FrequencyRule:
    """A replacement of the rotary frequencies.

    scale: (inv_freq float32 `[pairs]`, RopeFacts, length in tokens) -> (inv_freq, amplitude); the
        amplitude multiplies cos and sin of queries and keys alike.
    dynamic: frequencies depend on the current length, so cached keys cannot stay rotated.
    interval: a dynamic rule takes the length as the next multiple of this many tokens, so what is
        drafted up to there is verified under the frequencies plain decoding has.
    """

    scale: Callable[[Tensor, RopeFacts, int], tuple[Tensor, float]]
    dynamic: bool = False
    interval: int = 1


@dataclass(frozen=True)
class RopeFacts:
    """What a frequency rule may need: base, rotated channels of a head, trained length in
    tokens."""

    theta: float
    rotary_dim: int
    trained_length: int


@dataclass
class Rope:
    """The rotary module of a model and the tables made from it.

    kinds are the layer types the module is called with (gemma 3 has two bases); None where it takes
    no layer type.
    """

    module: nn.Module
    original: Callable[..., tuple[Tensor, Tensor]]
    facts: dict[str | None, RopeFacts]
    dtype: torch.dtype
    device: torch.device
    _tables: dict[tuple[object, ...], Angles] = field(default_factory=dict)

    def angles(
        self,
        pairing: Pairing,
        kind: str | None,
        positions: Tensor,
        rule: FrequencyRule | None = None,
        length: int = 0,
        amplitude: bool = True,
    ) -> Angles:
        """Full-width cos and sin `[n, head_dim]` for positions `[n]` (any real numbers).

        length is the current sequence length, used by dynamic rules; amplitude False gives a pure
        rotation (to move a key that already carries its amplitude).
        """
        cos, sin = self._family(kind, positions, rule, length, amplitude)
        return pairing.spread(cos, sin)

    def table(
        self, pairing: Pairing, kind: str | None, stop: int, rule: FrequencyRule | None = None
    ) -> Angles:
        """Angles of the positions 0..stop-1 under a static rule, kept and grown by doubling."""
        key = (id(pairing), kind, id(rule))
        table = self._tables.get(key)
        if table is None or table[0].shape[0] < stop:
            size = max(1024, 1 << (stop - 1).bit_length())
            positions = torch.arange(size, device=self.device)
            table = self.angles(pairing, kind, positions, rule)
            if rule is not None and key not in self._tables:
                # A later rule may get the address of one that is gone.
                weakref.finalize(rule, self._tables.pop, key, None)
            self._tables[key] = table
        return table

    @torch.no_grad()
    def _family(
        self,
        kind: str | None,
        positions: Tensor,
        rule: FrequencyRule | None,
        length: int,
        amplitude: bool,
    ) -> tuple[Tensor, Tensor]:
        prefix = "" if kind is None else f"{kind}_"
        names = f"{prefix}inv_freq", f"{prefix}attention_scaling"
        before = {name: getattr(self.module, name) for name in names if hasattr(self.module, name)}
        try:
            if rule is not None:
                frequencies, scale = rule.scale(
                    before[names[0]].detach().float(), self.facts[kind], length
                )
                setattr(self.module, names[0], frequencies.to(self.device))
                setattr(self.module, names[1], before.get(names[1], 1.0) * scale)
            if not amplitude and names[1] in before:
                setattr(self.module, names[1], 1.0)
            # Only the dtype and device of this stand-in for the hidden states matter.
            x = torch.empty(0, dtype=self.dtype, device=self.device)
            extra = () if kind is None else (kind,)
            cos, sin = self.original(x, positions.reshape(1, -1).to(self.device), *extra)
        finally:
            for name, value in before.items():
                setattr(self.module, name, value)
        return cos.reshape(positions.numel(), -1), sin.reshape(positions.numel(), -1)
