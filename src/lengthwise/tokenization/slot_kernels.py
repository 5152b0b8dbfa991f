"""Where a key lies in a table of open addressing, compiled; shared by all tables of this room."""

from __future__ import annotations

import numpy as np

from lengthwise.tokenization.compiled import jit

MIX = np.uint64(0x9E3779B97F4A7C15)


@jit
def slot_of(key, slots):
    """The first slot to look at. Both halves of the key are mixed.

    Args:
        key: of 64 bits.
        slots: how many there are, a power of two.
    """
    mixed = np.uint64(key) * MIX
    mixed ^= mixed >> np.uint64(29)
    return np.int64(mixed * MIX >> np.uint64(20)) & (slots - 1)


@jit
def pair_key(left, right):
    """Two tokens as one number.

    Args:
        left, right: the tokens.
    """
    return (np.int64(left) << 32) | np.int64(right)
