"""Rotary positions of any family, as one rule learned from the family itself.

`probe.py` asks a model what its rotation does to each channel; the answer is a `RotaryLayout`. With
it a rotation is `x * cos + x[partner] * (sign * sin)` for every layout in use (halves, interleaved,
first or last channels only). Frequencies can be replaced by a rule (PI, NTK, YaRN, ...), and angles
are always computed in float32: bf16 angles give logit errors of 0.3 and more from position 500.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lengthwise.models.frequencies import Frequencies, OwnFrequencies

Angles = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class RotaryLayout:
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


@dataclass(frozen=True)
class FrequencyRule:
    """A replacement of the rotary frequencies.

    scale: (inv_freq float32 `[pairs]`, RopeFacts, length in tokens) -> (inv_freq, amplitude); the
        amplitude multiplies cos and sin of queries and keys alike.
    dynamic: frequencies depend on the current length, so cached keys cannot stay rotated.
    interval: a dynamic rule takes the length as the next multiple of this many tokens, so what is
        drafted up to there is verified under the frequencies plain decoding has.
    still: up to this length a dynamic rule changes nothing.
    """

    scale: Callable[[Tensor, RopeFacts, int], tuple[Tensor, float]]
    dynamic: bool = False
    interval: int = 1
    still: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for rules that give the same frequencies; methods of equal objects do."""
        owner, function = getattr(self.scale, "__self__", None), self.scale
        function = getattr(function, "__func__", function)
        return owner, function, self.dynamic, self.interval, self.still

    def tokens_until_change(self, length: int) -> int | None:
        """Tokens that may follow `length` ones before frequencies change; None is any number.

        Args:
            length: tokens that are committed.
        """
        if not self.dynamic:
            return None
        return max(self.still - length, self.interval - length % self.interval)


@dataclass(frozen=True)
class RopeFacts:
    """What a frequency rule may need: base, rotated channels of a head, trained length in
    tokens."""

    theta: float
    rotary_dim: int
    trained_length: int


class Rope:
    """A model's rotary positions: its own frequencies, and the tables made from them.

    facts are told apart by the layer types the module is called with (gemma 3 has two bases); None
    where it takes no layer type. Nothing here belongs to the user's module, and tables are never
    changed once made, so that any number of threads may ask.

    switch: the longest text that all layers read with their first frequencies; None where no length
    changes them. grows: each token beyond the switch changes frequencies again.
    """

    def __init__(
        self,
        own: OwnFrequencies,
        facts: dict[str | None, RopeFacts],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.own = own
        self.facts = facts
        self.dtype = dtype
        self.device = device
        switches = [own.switch(layer_type) for layer_type in facts]
        self.switch = min((switch for switch in switches if switch is not None), default=None)
        self._grown = {
            layer_type: _growing(own, layer_type) for layer_type in facts if own.grows(layer_type)
        }
        self.grows = bool(self._grown)
        self._plain: _Tables = {}
        self._ruled: WeakKeyDictionary[FrequencyRule, _Tables] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def own_rule(self, layer_type: str | None) -> FrequencyRule | None:
        """The model's own rule as one of ours, where every further token changes frequencies."""
        return self._grown.get(layer_type)

    def tokens_until_switch(self, length: int) -> int | None:
        """Tokens that may follow `length` ones before first frequencies end; None is any number."""
        left = 0 if self.switch is None else self.switch - length
        return left if left > 0 else None

    def phase(self, length: int) -> int:
        """Texts of lengths with different phases are read with different frequencies by layers
        that keep theirs while a text stays on one side of the switch."""
        still = [layer_type for layer_type in self.facts if layer_type not in self._grown]
        return max((self.own.phase(layer_type, length) for layer_type in still), default=0)

    @torch.no_grad()
    def angles(
        self,
        layout: RotaryLayout,
        layer_type: str | None,
        positions: Tensor,
        rule: FrequencyRule | None = None,
        length: int | None = None,
        amplitude: bool = True,
    ) -> Angles:
        """Full-width cos and sin `[n, head_dim]` for positions `[n]` (any real numbers).

        length: that of the sequence now, by which rules and the model itself may choose. None is
        that of a text which ends with the last of the positions. amplitude: False gives a pure
        rotation, to move a key that already carries its amplitude.
        """
        if length is None:
            choosing = rule is not None or self.own.switch(layer_type) is not None
            length = int(positions.max()) + 1 if choosing and positions.numel() else 1
        used = self.own.at(layer_type, length)
        if rule is not None:
            inv_freq, scale = rule.scale(used.inv_freq, self.facts[layer_type], length)
            used = Frequencies(inv_freq.to(used.inv_freq.device), used.scaling * scale)
        if not amplitude:
            used = Frequencies(used.inv_freq, 1.0)
        found = self.own.cos_sin(layer_type, used, positions.to(self.device), self.dtype)
        return layout.spread(*(columns.to(layout.sign.device) for columns in found))

    def table(
        self,
        layout: RotaryLayout,
        layer_type: str | None,
        stop: int,
        rule: FrequencyRule | None = None,
        length: int = 0,
    ) -> Angles:
        """Angles of the positions 0..stop-1 under a static rule, kept and grown by doubling.

        length: of the text, by which a model may choose between its frequencies.
        """
        phase = 0 if self.switch is None else self.own.phase(layer_type, length)
        with self._lock:
            tables = self._plain if rule is None else self._ruled.setdefault(rule, {})
        key = layout, layer_type, phase
        table = tables.get(key)
        if table is None or table[0].shape[0] < stop:
            size = max(1024, 1 << (stop - 1).bit_length())
            positions = torch.arange(size, device=self.device)
            table = self.angles(layout, layer_type, positions, rule, length)
            tables[key] = table
        return table


class StepAngles:
    """Angles at which the tokens of one forward stand: made once, shared by all layers.

    index int64 `[n]`: birth ids, or positions of tokens that stand elsewhere, float32 where they
    are no whole numbers. start: the first, where they are consecutive; offset: added to every
    position; length: of the text, by which frequencies may be chosen.
    """

    def __init__(
        self, rope: Rope, index: Tensor, start: int | None, offset: int, length: int
    ) -> None:
        self._rope = rope
        self._index = index
        self._start = start
        self._offset = offset
        self._length = length
        self._found: dict[tuple[object, ...], Angles] = {}

    def on(self, device: torch.device) -> StepAngles:
        """Those of layers that attend on another device.

        Args:
            device: where.
        """
        index = self._index.to(device)
        return StepAngles(self._rope, index, self._start, self._offset, self._length)

    def at(
        self,
        layout: RotaryLayout,
        layer_type: str | None,
        rule: FrequencyRule | None,
        where: Callable[[Tensor], Tensor] | None = None,
    ) -> Angles:
        """Angles `[n, head_dim]` of the tokens, or of the positions `where(index)` instead."""
        # Layers with a window of their own share layout and type with others, but not the rule.
        key = layout, layer_type, rule, where
        found = self._found.get(key)
        if found is None:
            if where is None and self._start is not None:
                start = self._start + self._offset
                stop = start + len(self._index)
                cos, sin = self.table(layout, layer_type, rule, stop)
                found = cos[start:stop], sin[start:stop]
            else:
                here = self._index + self._offset if where is None else where(self._index)
                if here.is_floating_point():
                    # Of positions that are no whole numbers there is no table.
                    found = self._rope.angles(layout, layer_type, here, rule, self._length)
                else:
                    cos, sin = self.table(layout, layer_type, rule, int(here.max()) + 1)
                    found = cos[here], sin[here]
            self._found[key] = found
        return found

    def table(
        self, layout: RotaryLayout, layer_type: str | None, rule: FrequencyRule | None, stop: int
    ) -> Angles:
        """Angles `[at least stop, head_dim]` of the positions 0, 1, ..."""
        if rule is None or not rule.dynamic:
            return self._rope.table(layout, layer_type, stop, rule, self._length)
        key = "dynamic", layout, layer_type, rule
        table = self._found.get(key)
        if table is None or len(table[0]) < stop:
            last = int(self._index.max()) + 1 + self._offset if len(self._index) else 0
            positions = torch.arange(max(stop, last), device=self._rope.device)
            table = self._rope.angles(layout, layer_type, positions, rule, self._length)
            self._found[key] = table
        return table


_Tables = dict[tuple[RotaryLayout, str | None, int], Angles]


def _growing(own: OwnFrequencies, layer_type: str | None) -> FrequencyRule:
    def scale(inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
        return inv_freq, 1.0

    return FrequencyRule(scale, dynamic=True, still=own.switch(layer_type) or 0)
