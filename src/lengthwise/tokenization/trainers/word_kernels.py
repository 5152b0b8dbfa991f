"""Counting different pieces, compiled: a table of open addressing over their bytes."""

from __future__ import annotations

import numpy as np

from lengthwise.tokenization.compiled import jit
from lengthwise.tokenization.slot_kernels import slot_of


@jit
def _digest(data, start, end):
    found = np.uint64(0xCBF29CE484222325)
    for at in range(start, end):
        found = (found ^ np.uint64(data[at])) * np.uint64(0x100000001B3)
    return np.int64(found >> np.uint64(1))


@jit
def count_pieces(data, ends, slots, flat, starts, counts, number):
    """Counts pieces of one array into words.

    data: uint8 `[bytes]`. ends: of its pieces, int32. slots: number of a word or -1, int32 `[a
    power of two]`. flat, starts: the bytes of all words, uint8, and where each begins and the last
    one ends, int64. counts: int64. number: of words so far. All have room for every piece. Returns
    the number of words after it.
    """
    start = 0
    for end in ends:
        slot = slot_of(_digest(data, start, end), len(slots))
        size = end - start
        while True:
            word = slots[slot]
            if word < 0:
                first = starts[number]
                flat[first : first + size] = data[start:end]
                starts[number + 1] = first + size
                counts[number] = 1
                slots[slot] = number
                number += 1
                break
            first = starts[word]
            if starts[word + 1] - first == size:
                same = True
                for at in range(size):
                    if flat[first + at] != data[start + at]:
                        same = False
                        break
                if same:
                    counts[word] += 1
                    break
            slot = (slot + 1) & (len(slots) - 1)
        start = end
    return number


@jit
def fill_slots(flat, starts, number, slots):
    """Puts words into an empty table."""
    slots[:] = -1
    for word in range(number):
        slot = slot_of(_digest(flat, starts[word], starts[word + 1]), len(slots))
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = word


@jit
def lay_out(flat, starts, counts, token_of, tokens, weights):
    """Writes words of two bytes or more as tokens and weights, with -1 around each. Returns the
    places; tokens of length 0 are counted and not written."""
    places = 1
    writing = len(tokens) > 0
    if writing:
        tokens[0], weights[0] = -1, 0
    for word in range(len(counts)):
        if starts[word + 1] - starts[word] < 2:
            continue
        if writing:
            for at in range(starts[word], starts[word + 1]):
                tokens[places] = token_of[flat[at]]
                weights[places] = counts[word]
                places += 1
            tokens[places], weights[places] = -1, 0
            places += 1
        else:
            places += starts[word + 1] - starts[word] + 1
    return places
