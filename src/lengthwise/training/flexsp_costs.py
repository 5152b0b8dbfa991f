"""What a micro-batch costs on a sequence-parallel group: milliseconds and memory from a table.

A group of p devices shares every sequence it is given (Ulysses: all-to-all before and after
attention). Its time is a sum of three parts:

    computing    sum over its sequences of (quadratic s^2 + linear s) / p
    all-to-all   volume / p, over the bandwidth that a group of p has
    a fixed part

That bandwidth falls off a cliff where a group leaves its node, so short sequences want small
groups; long ones need large groups because a device holds only so many tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import floor, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise.errors import LengthwiseError

MIB = 2.0**20


@dataclass(frozen=True)
class Costs:
    """A measured cost table.

    quadratic_ms, linear_ms: per token squared and per token of a sequence on one device. fixed_ms:
    of a group and micro-batch. bytes_per_token: that all-to-all moves in forward and backward.
    bandwidth: GB/s of all-to-all by group size; which sizes exist (1 needs none).
    token_bytes: activations of a token. model_bytes: weights, gradients and optimizer state of one
    device. memory_bytes: that one device has for both.
    """

    quadratic_ms: float
    linear_ms: float
    fixed_ms: float
    bytes_per_token: float
    bandwidth: Mapping[int, float]
    token_bytes: float
    model_bytes: float
    memory_bytes: float

    def __post_init__(self) -> None:
        numbers = {each.name: getattr(self, each.name) for each in fields(self)}
        numbers |= {f"bandwidth of {p}": each for p, each in numbers.pop("bandwidth").items()}
        odd = [f"{name} is {value}" for name, value in numbers.items() if not isfinite(value)]
        if odd:
            raise LengthwiseError(f"a cost table has finite numbers only; {odd[0]}")
        if self.quadratic_ms == 0 == self.linear_ms:
            raise LengthwiseError("quadratic_ms and linear_ms are both 0: tokens must cost time")
        if min(self.quadratic_ms, self.linear_ms, self.fixed_ms, self.bytes_per_token) < 0:
            raise LengthwiseError("times and bytes of a cost table must be at least 0")
        if min(self.bandwidth.values(), default=1.0) <= 0 or min(self.bandwidth, default=1) < 1:
            raise LengthwiseError("bandwidth must map group sizes to GB/s above 0")
        if self.token_bytes <= 0 or self.capacity < 1:
            raise LengthwiseError(
                f"a device of {self.memory_bytes / 2**30:.1f} GiB holds no token beside "
                f"{self.model_bytes / 2**30:.1f} GiB of model: more devices, or more memory"
            )

    @property
    def capacity(self) -> int:
        """Tokens that fit on one device."""
        return floor((self.memory_bytes - self.model_bytes) / self.token_bytes)

    def time(self, length: float, size: int) -> float:
        """Milliseconds that a sequence of `length` tokens adds to a group of `size` devices."""
        compute = (self.quadratic_ms * length**2 + self.linear_ms * length) / size
        if size == 1:
            return compute
        return compute + self.bytes_per_token * length / size / self.bandwidth[size] / 1e6

    def memory(self, tokens: int, size: int) -> float:
        """Bytes on each device of a group that holds `tokens` tokens."""
        return self.model_bytes + self.token_bytes * tokens / size

    def sizes(self, devices: int) -> tuple[int, ...]:
        """Group sizes that the table knows and `devices` allow: powers of two."""
        known = {1, *self.bandwidth}
        return tuple(2**k for k in range(devices.bit_length()) if 2**k <= devices and 2**k in known)

    def usual_sizes(self, devices: int) -> tuple[int, ...]:
        """Those without groups of one, as the authors plan; one where there is nothing else."""
        known = self.sizes(devices)
        return tuple(size for size in known if size > 1) or known


def read_costs(path: Path) -> Costs:
    """A cost table from a JSON object with the fields of Costs; bandwidth as {"2": 119.5, ...}."""
    names = [each.name for each in fields(Costs)]
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        odd = sorted(set(found) ^ set(names))
        if odd:
            raise LengthwiseError(
                f"{path}: {odd[0]!r} is {'missing' if odd[0] in names else 'unknown'}; "
                f"a cost table has {', '.join(names)}"
            )
        bandwidth = {int(size): float(speed) for size, speed in found.pop("bandwidth").items()}
        return Costs(bandwidth=bandwidth, **{name: float(found[name]) for name in found})
    except LengthwiseError:
        raise
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise LengthwiseError(f"{path} is not a cost table in JSON: {error}") from error


@dataclass(frozen=True)
class _Gpt:
    """What the authors measured of one size, and what it is made of.

    token_mib: activations of a token, by how many layers forget those of their MLP.
    """

    quadratic_us: float
    linear_ms: float
    fixed_ms: float
    layers: int
    width: int
    billions: float
    """2^30 parameters with learned positions for CONTEXT tokens."""
    token_mib: Mapping[int, float]

    def forgetting(self, devices: int) -> int:
        """Layers whose MLP is computed again in the backward pass, as the authors train it."""
        few, *more = sorted(self.token_mib)
        return more[-1] if more and devices < MANY else few

    def parameters(self, context: int) -> float:
        """Weights with learned positions for `context` tokens."""
        return self.billions * 2**30 + self.width * (context - CONTEXT)


CONTEXT = 192_000
# From so many devices on, the states of a GPT-7B leave room to keep most of its MLPs' activations.
MANY = 32
# 30b computes attention again too, in 48 of its layers: its one figure has that in it.
_GPTS = {
    "7b": _Gpt(5.128, 0.1839576, 629.3563, 32, 4096, 7.1174468994140625,
               {12: 4.480441895, 32: 2.668764648}),
    "13b": _Gpt(9.2852, 0.3060189, 1132.5632, 40, 5120, 13.11605453491211, {40: 4.220439453}),
    "30b": _Gpt(15.4262, 0.8035742, 2789.3644, 60, 6656, 31.52513885498047, {60: 3.417381836}),
}  # fmt: skip


def gpt_on_a100(
    size: str = "7b", devices: int = 64, memory_gib: float = 28.0, *, context: int = CONTEXT,
    forgetting: int | None = None,
) -> Costs:  # fmt: skip
    """The authors' table: GPT of 7, 13 or 30 billion parameters, 8 A100 a node, 2 InfiniBand links.

    ZeRO-3 over all devices at 16 bytes a parameter. context: tokens that the learned positions
    reach, which are parameters too. forgetting: layers that keep no activations of their MLP but
    compute them again (default: the authors', for 7b all 32 on fewer than 32 devices and else 12).
    Between the two counts that they measured a token's bytes are interpolated; the time that
    computing again takes is not in their table. Raises LengthwiseError for what it does not have.
    """
    if size not in _GPTS:
        raise LengthwiseError(f"there is no table for {size!r}; known: {', '.join(_GPTS)}")
    gpt = _GPTS[size]
    if context < 1:
        raise LengthwiseError(f"context={context} must be at least 1 token")
    counts = sorted(gpt.token_mib)
    chosen = gpt.forgetting(devices) if forgetting is None else forgetting
    if not counts[0] <= chosen <= counts[-1]:
        allowed = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        raise LengthwiseError(
            f"forgetting={chosen} was not measured for {size}: {allowed} of its {gpt.layers} "
            "layers; give a table of your own with --costs"
        )
    token_mib = float(np.interp(chosen, counts, [gpt.token_mib[n] for n in counts]))
    return Costs(
        quadratic_ms=gpt.quadratic_us * 1e-6,
        linear_ms=gpt.linear_ms,
        fixed_ms=gpt.fixed_ms,
        # Four all-to-alls a layer forward and backward, two bytes a number.
        bytes_per_token=4 * 2 * gpt.layers * gpt.width * 2 * 1e3 / 1024**2 * 1e3,
        bandwidth={2: 119.54, 4: 104.07, 8: 96.5, 16: 10.33, 32: 5.94, 64: 4.87},
        token_bytes=token_mib * MIB,
        model_bytes=gpt.parameters(context) * 16 / devices,
        memory_bytes=memory_gib * 1024 * MIB,
    )
