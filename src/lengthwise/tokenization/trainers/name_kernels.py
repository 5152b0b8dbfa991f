"""The tokens that merges make, compiled: what they spell, and which may become one.

A spelling is known by a hash of 64 bits that the hashes of two tokens give:
h(ab) = h(a) * power(b) + h(b). Two of a million tokens agree by chance once in 40 million runs.
"""

from __future__ import annotations

import numpy as np

from lengthwise.tokenization.compiled import jit
from lengthwise.tokenization.slot_kernels import MIX, slot_of
from lengthwise.tokenization.trainers.learner_state import (
    CLOSED,
    ENDS_BLANK,
    ENDS_COLON,
    LONGEST,
    MADE,
    MOST_WORDS,
    NEVER,
    PAST_COLON,
    STARTS_BLANK,
    VOCABULARY,
)


@jit
def _digest(s, left, right):
    """The hash of what two tokens spell together."""
    return s.digest[left] * s.power[right] + s.digest[right]


@jit
def may_merge(s, left, right):
    """Whether the guard rails let two tokens become one."""
    one, two = s.edges[left], s.edges[right]
    if (one | two) & CLOSED:
        return False
    if one & ENDS_COLON and two & STARTS_BLANK and not s.numbers[PAST_COLON]:
        return False
    longest, most = s.numbers[LONGEST], s.numbers[MOST_WORDS]
    length = s.length[left] + s.length[right]
    if longest and length > longest:
        return False
    if length == s.numbers[NEVER] and _digest(s, left, right) == s.never[0]:
        return False
    meets = one & ENDS_BLANK or two & STARTS_BLANK
    return most == 0 or s.words[left] + s.words[right] - (0 if meets else 1) <= most


@jit
def name_token(s, left, right):
    """The token that two become, and whether it was there already."""
    digest = _digest(s, left, right)
    slot = slot_of(np.int64(digest >> np.uint64(1)), len(s.spelled))
    while s.spelled_id[slot] >= 0:
        if s.spelled[slot] == digest:
            return s.spelled_id[slot], True
        slot = (slot + 1) & (len(s.spelled) - 1)
    token = np.int32(s.numbers[VOCABULARY])
    s.spelled[slot] = digest
    s.spelled_id[slot] = token
    s.digest[token] = digest
    s.power[token] = s.power[left] * s.power[right]
    s.length[token] = s.length[left] + s.length[right]
    meets = s.edges[left] & ENDS_BLANK or s.edges[right] & STARTS_BLANK
    s.words[token] = s.words[left] + s.words[right] - (0 if meets else 1)
    edges = (s.edges[left] & STARTS_BLANK) | (s.edges[right] & (ENDS_BLANK | ENDS_COLON))
    edges |= (s.edges[left] | s.edges[right]) & CLOSED
    if s.edges[left] & ENDS_COLON and s.edges[right] & STARTS_BLANK and not s.numbers[PAST_COLON]:
        edges |= CLOSED
    s.edges[token] = edges
    s.numbers[VOCABULARY] += 1
    return token, False


@jit
def name_bytes(s, of, base):
    """Names the 256 bytes. of: the byte of each token, uint8 `[256]`. base: of the hash, odd."""
    for token in range(256):
        # Digests of bytes are spread, so that no sum of few of them is another.
        digest = (np.uint64(of[token]) + np.uint64(1)) * MIX
        digest ^= digest >> np.uint64(31)
        s.digest[token], s.power[token] = digest * base, base
        s.length[token], s.words[token] = 1, of[token] != 32
        if of[token] == 32:
            s.edges[token] = STARTS_BLANK | ENDS_BLANK
        elif of[token] == 58:
            s.edges[token] = ENDS_COLON
        slot = slot_of(np.int64(s.digest[token] >> np.uint64(1)), len(s.spelled))
        while s.spelled_id[slot] >= 0:
            slot = (slot + 1) & (len(s.spelled) - 1)
        s.spelled[slot], s.spelled_id[slot] = s.digest[token], token
    s.numbers[VOCABULARY] = 256


@jit
def name_merges(s, merges, count):
    """Names the tokens of merges, int32 `[merges, 2]`. count: whether they are made in this run."""
    for at in range(len(merges)):
        made, _ = name_token(s, merges[at, 0], merges[at, 1])
        if count:
            s.left[s.numbers[MADE]], s.right[s.numbers[MADE]] = merges[at, 0], merges[at, 1]
            s.made[s.numbers[MADE]] = made
            s.numbers[MADE] += 1
