"""What is asked of the choice of tokens: greedy, or sampled, and how narrowly.

Processors are those of transformers.
"""

from __future__ import annotations

import hashlib
import math
import operator
import struct
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lengthwise.errors import LengthwiseError


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy, and the least above it 1e-30. top_k 0, top_p 1, min_p 0 and
    repetition_penalty 1 do nothing; the first three need a temperature. seed: an integer of 64
    bits, with or without a sign."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (0.0, float("inf")), "top_k": (0, float("inf")), "top_p": (0.0, 1.0),
            "min_p": (0.0, 1.0), "repetition_penalty": (1e-6, float("inf")),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value: Any = getattr(self, name)
            if not _real(value):
                raise LengthwiseError(f"{name}={value!r}: it must be a number, {low:g} to {high:g}")
            if not low <= value <= high:
                raise LengthwiseError(f"{name}={value}: allowed is {low:g} to {high:g}")
            # A number of numpy is not compared with one that its type cannot hold.
            if value == math.inf or (isinstance(value, int) and value > sys.float_info.max):
                raise LengthwiseError(f"{name}={value}: give a finite number")
        # Logits divided by less would overflow to infinity and choose token 0 of them all.
        if 0 < self.temperature < LEAST:
            raise LengthwiseError(
                f"temperature={self.temperature}: allowed is 0, which is greedy, or {LEAST:g} up"
            )
        if not float(self.top_k).is_integer():
            raise LengthwiseError(f"top_k={self.top_k}: allowed are whole numbers, 0 for all")
        object.__setattr__(self, "seed", _seed(self.seed))
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """Raises LengthwiseError for what narrows a choice where none is left to chance."""
        idle = {"top_k": self.top_k != 0, "top_p": self.top_p != 1, "min_p": self.min_p != 0}
        for name in [name for name, given in idle.items() if given and self.temperature == 0]:
            raise LengthwiseError(
                f"{name}={getattr(self, name)} is for sampling, and temperature=0 takes the "
                f"likeliest token: give temperature=0.7 or so, or leave {name} out"
            )

    @property
    def plain(self) -> bool:
        """Greedy over untouched logits: an argmax is all there is to do."""
        return self.temperature == 0 and self.repetition_penalty == 1

    def processors(self) -> LogitsProcessorList:
        found = LogitsProcessorList()
        if self.repetition_penalty != 1:
            found.append(RepetitionPenaltyLogitsProcessor(float(self.repetition_penalty)))
        if self.temperature == 0:
            return found
        if self.temperature != 1:
            found.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k:
            found.append(TopKLogitsWarper(int(self.top_k)))
        if self.top_p < 1:
            found.append(TopPLogitsWarper(self.top_p))
        if self.min_p:
            found.append(MinPLogitsWarper(self.min_p))
        return found


# The least temperature above 0.
LEAST = 1e-30


def _real(given: object) -> bool:
    return isinstance(given, (int, float, np.number)) and not isinstance(given, bool)


def _seed(given: object) -> int:
    """A seed as an int, or LengthwiseError."""
    if not isinstance(given, bool):
        try:
            seed = operator.index(given)  # type: ignore[arg-type]
        except TypeError:
            pass
        else:
            if -(2**63) <= seed < 2**64:
                return seed
    raise LengthwiseError(f"seed={given!r}: allowed are integers of 64 bits")


def row_seed(seed: int, row: int) -> int:
    """The seed of one row of several that are drawn from one seed; that of row 0 is the seed."""
    if not row:
        return seed
    packed = seed.to_bytes(9, "little", signed=True) + struct.pack("<q", row)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little")


__all__ = ["LEAST", "Sampling", "row_seed"]
