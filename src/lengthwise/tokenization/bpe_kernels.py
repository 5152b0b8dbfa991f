"""Byte-level BPE of pieces of any length in linear time, compiled.

A sequence of tokens is what BPE makes of a text if and only if every two neighbours are what it
makes of the two together. For merges within tokens do not see each other: the first merge across a
border would be the first one for these two alone as well. So we walk: take the longest token that
goes on here and agrees with the last one, else the next shorter one, else take the last one back.
A border that was given up once is never tried again, since what leads to it is unique.
"""

from __future__ import annotations

import numpy as np

from lengthwise.tokenization.compiled import jit
from lengthwise.tokenization.slot_kernels import pair_key, slot_of

NO_RANK = (1 << 31) - 1


@jit
def make_ranks(merges, made, keys, values):
    """Fills a table of merges.

    Args:
        merges: pairs of tokens by rank, int32 `[merges, 2]`.
        made: the token of each, int32 `[merges]`.
        keys: pairs by slot, int64 `[a power of two]`, written.
        values: their rank and token, int32 `[slots, 2]`, written.
    """
    keys[:] = -1
    for rank in range(len(merges)):
        key = pair_key(merges[rank, 0], merges[rank, 1])
        slot = slot_of(key, len(keys))
        while keys[slot] != -1 and keys[slot] != key:
            slot = (slot + 1) & (len(keys) - 1)
        keys[slot] = key
        values[slot, 0], values[slot, 1] = rank, made[rank]


@jit
def _rank(keys, left, right):
    """The slot of a merge; -1 where there is none."""
    key = pair_key(left, right)
    slot = slot_of(key, len(keys))
    while keys[slot] != -1:
        if keys[slot] == key:
            return slot
        slot = (slot + 1) & (len(keys) - 1)
    return -1


@jit
def _run(keys, values, tokens, ranks, border):
    """Merges `tokens` as BPE does, in place. Returns how many are left, -1 once a merge lies across
    the border, which is a number of tokens from the first one."""
    number = len(tokens)
    ahead = border
    for at in range(number - 1):
        slot = _rank(keys, tokens[at], tokens[at + 1])
        ranks[at] = values[slot, 0] if slot >= 0 else NO_RANK
    while number > 1:
        best, where = NO_RANK, -1
        for at in range(number - 1):
            if ranks[at] < best:
                best, where = ranks[at], at
        if where < 0:
            break
        if where == ahead - 1:
            return -1
        if where < ahead:
            ahead -= 1
        tokens[where] = values[_rank(keys, tokens[where], tokens[where + 1]), 1]
        number -= 1
        for at in range(where + 1, number):
            tokens[at] = tokens[at + 1]
            ranks[at] = ranks[at + 1]
        if where > 0:
            slot = _rank(keys, tokens[where - 1], tokens[where])
            ranks[where - 1] = values[slot, 0] if slot >= 0 else NO_RANK
        if where < number - 1:
            slot = _rank(keys, tokens[where], tokens[where + 1])
            ranks[where] = values[slot, 0] if slot >= 0 else NO_RANK
    return number


@jit
def reachable(flat, starts, of_byte, keys, values):
    """Which tokens BPE makes of their own bytes, bool `[tokens]`.

    Args:
        flat: the bytes of all tokens, uint8.
        starts: where each begins and the last one ends, int64 `[tokens + 1]`; a token without bytes
            is none.
        of_byte: the token of every byte, int32 `[256]`.
        keys, values: of `make_ranks`.
    """
    found = np.zeros(len(starts) - 1, np.bool_)
    for token in range(len(starts) - 1):
        size = starts[token + 1] - starts[token]
        if size == 0:
            continue
        tokens = np.empty(size, np.int32)
        for at in range(size):
            tokens[at] = of_byte[flat[starts[token] + at]]
        ranks = np.empty(size, np.int32)
        left = _run(keys, values, tokens, ranks, -1)
        found[token] = left == 1 and tokens[0] == token
    return found


@jit
def find_parts(merges, made, tokens):
    """Left part, right part and rank of tokens that come about in one way alone, int32
    `[tokens, 3]`.

    A byte has rank -1. A token has -2 if several merges make it, or one of lower rank than its
    parts: then when its parts were there is not told by ranks.

    Args:
        merges, made: as for `make_ranks`.
        tokens: how many there are.
    """
    parts = np.full((tokens, 3), -1, np.int32)
    for rank in range(len(merges)):
        token, left, right = made[rank], merges[rank, 0], merges[rank, 1]
        simple = parts[token, 2] == -1 and parts[left, 2] != -2 and parts[right, 2] != -2
        parts[token, 0], parts[token, 1] = left, right
        parts[token, 2] = rank if simple else -2
    for rank in range(len(merges)):
        # What was simple when it was read may rest on a token that had another merge later on.
        left, right = parts[merges[rank, 0], 2], parts[merges[rank, 1], 2]
        if left == -2 or right == -2 or left > rank or right > rank:
            parts[made[rank], 2] = -2
    return parts


@jit
def agree_slowly(flat, starts, of_byte, keys, values, left, right):
    """Whether BPE makes just these two tokens of the bytes of both: it is run.

    Args:
        flat, starts, of_byte, keys, values: as for `reachable`.
        left, right: the tokens.
    """
    one, two = starts[left + 1] - starts[left], starts[right + 1] - starts[right]
    tokens = np.empty(one + two, np.int32)
    for at in range(one):
        tokens[at] = of_byte[flat[starts[left] + at]]
    for at in range(two):
        tokens[one + at] = of_byte[flat[starts[right] + at]]
    ranks = np.empty(one + two, np.int32)
    return _run(keys, values, tokens, ranks, one) >= 0


@jit
def agree(keys, values, parts, left, right):
    """The same by going back in time: what stood at the border together, and would have merged
    before either of the two was taken up by another merge.

    Args:
        keys, values: of `make_ranks`.
        parts: of `find_parts`.
        left, right: the tokens; both come about in one way alone.
    """
    left_end, right_end = NO_RANK, NO_RANK
    while True:
        slot = _rank(keys, left, right)
        # Of equal ranks the first place comes first: within the left token, then at the border.
        if slot >= 0 and values[slot, 0] < left_end and values[slot, 0] <= right_end:
            return False
        born, other = parts[left, 2], parts[right, 2]
        if born < 0 and other < 0:
            return True
        if born > other:
            left_end, left = born, parts[left, 1]
        else:
            right_end, right = other, parts[right, 0]


@jit
def _child(edges, node, byte):
    """The node behind another one, -1 where there is none."""
    key = (np.int64(node) << 8) | np.int64(byte)
    slot = slot_of(key, len(edges))
    while edges[slot] != -1:
        if edges[slot] >> 31 == key:
            return edges[slot] & ((1 << 31) - 1)
        slot = (slot + 1) & (len(edges) - 1)
    return -1


@jit
def make_trie(flat, starts, tokens, edges, shorter):
    """A trie of tokens, given from the shortest on. Returns how many nodes are no token.

    Node 0 is the root, node t + 1 the token t, and those above are no tokens; so a prefix that is a
    token has its number when a longer one comes.

    Args:
        flat, starts: the bytes of all tokens, as for `reachable`.
        tokens: those of the trie, int64.
        edges: node << 8 | byte, << 31, | the node behind, int64 `[a power of two]`, written.
        shorter: by token, the longest that it begins with, int32 `[tokens]`, written.
    """
    edges[:] = -1
    others = 0
    for token in tokens:
        node = np.int64(0)
        shorter[token] = -1
        for at in range(starts[token], starts[token + 1]):
            if 0 < node < len(starts):
                shorter[token] = node - 1
            following = _child(edges, node, flat[at])
            if following < 0:
                if at + 1 == starts[token + 1]:
                    following = np.int64(token) + 1
                else:
                    following = np.int64(len(starts)) + others
                    others += 1
                key = (np.int64(node) << 8) | np.int64(flat[at])
                slot = slot_of(key, len(edges))
                while edges[slot] != -1:
                    slot = (slot + 1) & (len(edges) - 1)
                edges[slot] = (key << 31) | following
            node = following
    return others


@jit
def _longest(data, at, end, edges, tokens):
    """The longest token of the trie that goes on at a place; -1 where none does."""
    token, node = np.int64(-1), np.int64(0)
    for here in range(at, end):
        node = np.int64(_child(edges, node, data[here]))
        if node < 0:
            break
        if node < tokens:
            token = node - 1
    return token


@jit
def _fits(flat, starts, of_byte, keys, values, parts, known, left, right):
    """Whether two tokens agree, by what is known or else by asking."""
    key = np.uint64(pair_key(left, right << 1))
    slot = slot_of(key, len(known))
    # Read once: threads may share the table.
    answer = known[slot]
    if answer >> np.uint64(1) != key >> np.uint64(1):
        if parts[left, 2] == -2 or parts[right, 2] == -2:
            fits = agree_slowly(flat, starts, of_byte, keys, values, left, right)
        else:
            fits = agree(keys, values, parts, left, right)
        answer = key | np.uint64(fits)
        known[slot] = answer
    return answer & np.uint64(1) != 0


@jit
def encode(
    data, ends, counts, flat, starts, of_byte, keys, values, parts, edges, shorter,
    known, tried, out, apart,
):  # fmt: skip
    """Encodes pieces. Returns the number of tokens up to the end of each text, int64 `[texts]`.

    Args:
        data, ends, counts: texts, the ends of their pieces, and pieces up to the end of each text.
        flat, starts, of_byte, keys, values: as for `reachable`.
        parts: of `find_parts`.
        edges, shorter: of `make_trie`.
        known: pairs of tokens that were asked for, with the answer in the last bit, uint64
            `[a power of two]`.
        tried: borders given up, bool `[bytes]`, all False.
        out: the tokens, int32 `[2 * bytes + 2]`, written.
        apart: whether -1 is written behind each piece, and pieces of one token are left out.
    """
    totals = np.zeros(len(counts), np.int64)
    number = 0
    at = 0
    piece = 0
    for text in range(len(counts)):
        while piece < counts[text]:
            end = ends[piece]
            first = number
            token = np.int64(-2)
            while at < end:
                if token == -2:
                    token = _longest(data, at, end, edges, len(starts))
                while token >= 0:
                    border = at + starts[token + 1] - starts[token]
                    if not tried[border - 1]:
                        if number == first:
                            break
                        if _fits(
                            flat, starts, of_byte, keys, values, parts, known,
                            np.int64(out[number - 1]), token,
                        ):  # fmt: skip
                            break
                    token = np.int64(shorter[token])
                if token >= 0:
                    out[number] = token
                    number += 1
                    at += starts[token + 1] - starts[token]
                    token = np.int64(-2)
                else:
                    tried[at - 1] = True
                    number -= 1
                    token = np.int64(out[number])
                    at -= starts[token + 1] - starts[token]
                    token = np.int64(shorter[token])
            if apart and number == first + 1:
                number = first
            elif apart:
                out[number] = -1
                number += 1
            piece += 1
        totals[text] = number
    return totals
