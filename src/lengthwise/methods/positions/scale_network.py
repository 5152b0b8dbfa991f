"""CLEX's scale network: how rotary frequencies move as a text grows, learned.

    dx/dt = tanh((x + ln fN(t)) W_up) W_down - (2i / (d - 2)) 2 / (2t - 1)       x(1) = ln f

x are the logarithms of the frequencies, i counts their pairs, d are the channels that rotate.
fN(t) = f (2t - 1)^(-2i / (d - 2)) is the law that NTK-aware scaling has. W_down begins at zero, so
that x(t) begins as ln fN(t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lengthwise.errors import LengthwiseError

FILE = "scale_network.json"
"""What a trained model's folder calls the network that it was trained with."""
# Of Runge and Kutta's fourth order, which errs by 1e-7 of a frequency at it. The authors' is 0.01.
STEP = 0.05


class ScaleNetwork(nn.Module):
    """W_up float32 `[pairs, 2 pairs]`, W_down float32 `[2 pairs, pairs]`.

    pairs: of channels that rotate together. trained: tokens of t = 1. largest: of the t trained.
    """

    def __init__(self, pairs: int, trained: int, largest: int) -> None:
        super().__init__()
        self.trained, self.largest = trained, largest
        self.up = nn.Parameter(torch.empty(pairs, 2 * pairs))
        self.down = nn.Parameter(torch.zeros(2 * pairs, pairs))
        nn.init.kaiming_uniform_(self.up, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the law's slope, float32 `[pairs]`, at x + ln fN."""
        found: Tensor = torch.tanh(x @ self.up.float()) @ self.down.float()
        return found

    def scale_of(self, length: int) -> int:
        """t of a text: how many times the trained length it is, rounded up, at most `largest`."""
        return min(max(1, -(-length // self.trained)), self.largest)

    def frequencies(self, inv_freq: Tensor, rotary_dim: int, scale: int) -> Tensor:
        """f(t), float32 `[pairs]`, with a gradient where the weights have one.

        Args:
            inv_freq: f of the model, float32 `[pairs]`; what is zero stays so.
            rotary_dim: d.
            scale: t; at 1 they are the model's.
        """
        if scale == 1:
            return inv_freq
        if not bool(self.down.any()) and not self.down.requires_grad:
            return lawful(inv_freq, rotary_dim, scale)
        still = inv_freq == 0
        start = inv_freq.masked_fill(still, 1.0).log()
        x = _integrated(self, start, law(len(inv_freq), rotary_dim, inv_freq.device), scale)
        return torch.exp(x).masked_fill(still, 0.0)

    def numbers(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "trained": self.trained, "largest": self.largest,
            "up": self.up.detach().cpu().tolist(), "down": self.down.detach().cpu().tolist(),
        }  # fmt: skip

    @classmethod
    def of(cls, numbers: Mapping[str, Any]) -> ScaleNetwork:
        """The network that `numbers` gave; raises LengthwiseError for what is none."""
        try:
            up, down = (torch.tensor(numbers[key], dtype=torch.float32) for key in ("up", "down"))
            made = cls(down.shape[1], int(numbers["trained"]), int(numbers["largest"]))
            made.load_state_dict({"up": up, "down": down})
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise LengthwiseError(f"it holds no scale network ({error})") from error
        if made.trained < 1 or made.largest < 1 or not all(map(_finite, made.parameters())):
            raise LengthwiseError("it holds no scale network (its numbers are out of range)")
        return made.requires_grad_(False)


def law(pairs: int, rotary_dim: int, device: torch.device | None = None) -> Tensor:
    """2i / (d - 2), float32 `[pairs]`: the power of 2t - 1 that the law divides by."""
    counted = torch.arange(pairs, dtype=torch.float32, device=device)
    return counted * (2 / max(rotary_dim - 2, 1))


def lawful(inv_freq: Tensor, rotary_dim: int, scale: int) -> Tensor:
    """fN(t), float32 `[pairs]`: what f(t) is before anything is learned.

    Args:
        inv_freq: f of the model, float32 `[pairs]`.
        rotary_dim: d.
        scale: t.
    """
    power = -law(len(inv_freq), rotary_dim, inv_freq.device)
    return inv_freq * torch.exp(power * math.log(2 * scale - 1))


def _integrated(network: ScaleNetwork, start: Tensor, power: Tensor, scale: int) -> Tensor:
    """x(scale) from x(1) = start."""

    def slope(t: float, x: Tensor) -> Tensor:
        grown = start - power * math.log(2 * t - 1)
        learned: Tensor = network(x + grown)
        return learned - power * (2 / (2 * t - 1))

    x, steps = start, round((scale - 1) / STEP)
    for number in range(steps):
        t = 1 + number * STEP
        one = slope(t, x)
        two = slope(t + STEP / 2, x + one * (STEP / 2))
        three = slope(t + STEP / 2, x + two * (STEP / 2))
        four = slope(t + STEP, x + three * STEP)
        x = x + (one + 2 * two + 2 * three + four) * (STEP / 6)
    return x


def _finite(weight: Tensor) -> bool:
    return bool(torch.isfinite(weight).all())


__all__ = ["FILE", "ScaleNetwork", "lawful"]
