"""Weights of a linear layer in 8 or 4 bits, and the operators of PyTorch that multiply by them.

- `int8`: w = q * scale, a scale for every output (symmetric, round to nearest).
- `int4`: w = (q - 8) * scale + zero, a scale and a zero for every `group` inputs of an output, from
  the least and the largest weight of the group.

A few rows are multiplied by the operator that reads the small weights (`direct`). For many rows
the weights are widened first, and multiplied as any others (`widened`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise._utils.timings import drawn

_Operator = Callable[..., Tensor]

FORMATS = ("int8", "int4")
# Bits a weight takes; of int4 with the scales and zeros of a group, of 16 bits each.
BITS = {"int8": 8.0, "int4": 5.0}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Inputs that share a scale in int4: the first of these that divides them.
GROUPS = (32, 64, 128, 256)
# Outputs that the operators of a CPU pack together, on one instruction set or another.
BLOCKS = (64, 32, 16)
# Outputs of int4 are filled up to a multiple of this.
FILL = max(BLOCKS)
# How far an operator may be from widened weights, as a share of the output's size.
CLOSE = 0.02


@dataclass(eq=False)
class LowBit:
    """A weight `[out, in]` in a format of FORMATS.

    data: int8 `[out, in]`; of int4 what the operator of the device packs, filled up to a multiple
    of FILL outputs. scale: `[out]`; of int4 `[in / group, filled out, 2]`, scales and zeros. It has
    the dtype of what is multiplied.
    """

    name: str
    data: Tensor
    scale: Tensor
    inputs: int
    outputs: int

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        return self.inputs // len(self.scale) if self.name == "int4" else self.inputs

    @property
    def direct(self) -> Callable[[Tensor], Tensor]:
        """x `[n, in]`, in the dtype of `scale` -> `[n, out]`, reading the small weights.

        It raises RuntimeError where PyTorch has no such operator for the device or dtype.
        """
        # The operators read numbers as they lie, whatever the strides say.
        data, scale = self.data.contiguous(), self.scale.contiguous()
        group, outputs = self.group, self.outputs
        if self.name == "int8":
            return lambda x: _INT8(x, data, scale)
        operator = _INT4_CPU if data.device.type == "cpu" else _INT4_GPU
        if scale.shape[1] == outputs:
            return lambda x: operator(x, data, group, scale)
        return lambda x: operator(x, data, group, scale)[:, :outputs]

    def widened(self, x: Tensor) -> Tensor:
        """x `[n, in]` -> `[n, out]`, through weights in the dtype of `scale`.

        Args:
            x: in the dtype of `scale`.
        """
        return F.linear(x, self.widen())

    def widen(self) -> Tensor:
        """The weight `[out, in]` in the dtype of `scale`."""
        if self.name == "int8":
            return self.data.to(self.scale.dtype) * self.scale[:, None]
        block = _block() if self.data.device.type == "cpu" else None
        if block is None:
            # The operator itself knows how it packs: by it, one input after another.
            ones = torch.eye(self.inputs, dtype=self.scale.dtype, device=self.data.device)
            return self.direct(ones).t().contiguous()
        filled, inputs = self.scale.shape[1], self.inputs
        packed = self.data.view(filled // block, inputs, block // 2).transpose(1, 2).contiguous()
        # A half of a byte less 8 is that half with its highest bit turned over, as a signed number.
        signed = packed.bitwise_xor_(0x88).view(torch.int8)
        whole = torch.stack(((signed << 4) >> 4, signed >> 4), 1).to(self.scale.dtype)
        # Scales are spread first: with numbers that repeat, `addcmul` is ten times as slow.
        spread = (2, filled, len(self.scale), self.group)
        scale, zero = self.scale.permute(2, 1, 0)[..., None].expand(spread).contiguous()
        weight = torch.addcmul(zero, whole.view_as(scale), scale)
        return weight.view(filled, inputs)[: self.outputs]

    @property
    def serves(self) -> bool:
        """Whether `direct` runs here and gives what `widened` gives."""
        key = self.name, self.scale.dtype, self.data.device.type, self.group, self.inputs
        if key not in _SERVES:
            _SERVES[key] = self._try()
        return _SERVES[key]

    def _try(self) -> bool:
        if self.name == "int4" and not (self.data.device.type == "cpu" and _block()):
            # It is widened by its operator, and was tried when it was packed.
            return True
        x = drawn(2, self.inputs, dtype=self.scale.dtype).to(self.data.device)
        try:
            found, right = self.direct(x).float(), self.widened(x).float()
        except (RuntimeError, AttributeError):  # Not for this device, dtype or torch.
            return False
        return bool((found - right).norm() <= CLOSE * right.norm())


# Of several faces of an operator those that PyTorch's own Python uses: they cost least a call.
_INT8: _Operator = torch._weight_int8pack_mm
_INT4_CPU: _Operator = torch._weight_int4pack_mm_for_cpu
_INT4_GPU: _Operator = torch._weight_int4pack_mm

_SERVES: dict[tuple[object, ...], bool] = {}


def low_bit(weight: Tensor, name: str) -> LowBit:
    """A weight in a format, round to nearest; int8 where int4 has no group that divides its inputs.

    Args:
        weight: `[out, in]` of one of DTYPES.
        name: of FORMATS.
    """
    outputs, inputs = weight.shape
    group = next((size for size in GROUPS if inputs % size == 0), None)
    if name == "int8" or group is None:
        exact = weight.float()
        scale = exact.abs().amax(1).div_(127).clamp_min_(1e-8).to(weight.dtype)
        data = (exact / scale.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        return LowBit("int8", data, scale, inputs, outputs)
    groups = weight.float().view(outputs, -1, group)
    low, high = groups.amin(-1), groups.amax(-1)
    scales = ((high - low) / 15).clamp_min_(1e-8).to(weight.dtype)
    zeros = (low + 8 * scales.float()).to(weight.dtype)
    whole = (groups - zeros.float()[..., None]).div_(scales.float()[..., None]).add_(8)
    whole = whole.round_().clamp_(0, 15).to(torch.int32).view(outputs, inputs)
    return from_int4(whole, scales, zeros)


def from_int4(whole: Tensor, scales: Tensor, zeros: Tensor) -> LowBit:
    """An int4 weight of its parts: w = (whole - 8) * scale + zero.

    Args:
        whole: int32 `[out, in]`, 0 to 15.
        scales: `[out, in / group]`.
        zeros: the same.
    """
    outputs, inputs = whole.shape
    fill = (0, 0, 0, -outputs % FILL)
    whole, scales, zeros = (F.pad(each, fill) for each in (whole, scales, zeros))
    both = torch.stack((scales.t(), zeros.t()), -1).contiguous()
    return LowBit("int4", _pack(whole), both, inputs, outputs)


def join(weights: Sequence[LowBit]) -> LowBit | None:
    """Weights that read the same inputs, as one; None where their forms differ."""
    first = weights[0]
    alike = {(each.name, each.inputs, each.group, each.data.dim()) for each in weights}
    filled = any(each.name == "int4" and each.outputs % FILL for each in weights)
    if len(alike) > 1 or filled:
        return None
    data = torch.cat([each.data for each in weights])
    scale = torch.cat([each.scale for each in weights], 1 if first.name == "int4" else 0)
    return LowBit(first.name, data, scale, first.inputs, sum(each.outputs for each in weights))


def _pack(whole: Tensor) -> Tensor:
    found: Tensor
    if whole.device.type == "cpu":
        found = torch.ops.aten._convert_weight_to_int4pack_for_cpu(whole, 1)
        return found
    pairs = (whole[:, ::2] << 4 | whole[:, 1::2]).to(torch.uint8)
    tiles = next(size for size in (8, 4, 2) if whole.shape[1] % (16 * size) == 0)
    found = torch.ops.aten._convert_weight_to_int4pack(pairs, tiles)
    return found


@lru_cache(maxsize=1)
def _block() -> int | None:
    """How many outputs the CPU's operator packs together: of a byte the low half is one of the
    first half of them, the high half one of the second. None where it packs in another way."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(0, 16, (FILL, 32), dtype=torch.int32, generator=generator)
    packed = _pack(whole)
    for block in BLOCKS:
        pairs = packed.view(-1, 32, block // 2)
        found = torch.cat((pairs & 15, pairs >> 4), -1).transpose(1, 2).reshape(FILL, 32)
        if torch.equal(found.int(), whole):
            return block
    return None


__all__ = ["BITS", "DTYPES", "FORMATS", "GROUPS", "LowBit", "from_int4", "join", "low_bit"]
