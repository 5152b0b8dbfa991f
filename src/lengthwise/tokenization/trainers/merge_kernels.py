"""Learning merges, compiled: take the commonest pair, put one token in its place, count again what
stood beside it.

Tokens stand in one array. A token stays at the place where it begins; behind it, up to its end, is
minus the number of places that it takes. -1 ends a piece. So neighbours are found without links:

    place    0   1   2   3   4   5   6
    tokens  -1  the  -2   c   at  -1        "the" takes places 1 and 2

A pair is known by its key (left << 32 | right) in a table of open addressing. Its places are a run
in `pool`: they are written when the pair comes up and looked at again when it is merged, since by
then another merge may have taken one away. The heap may hold counts that were larger once.

Pairs below `LEAST` are in no table. When the heap falls to it, all are counted anew with a lower
one (`pair_kernels`). Merges are those of `tokenizers`, its habits included. Among equals the pair
with the smaller ids is first. A pair that is merged keeps its count, so that it comes first at once
where a token that was there already comes up by other parts.
"""

from __future__ import annotations

import numpy as np

from lengthwise.tokenization.compiled import jit
from lengthwise.tokenization.slot_kernels import pair_key, slot_of
from lengthwise.tokenization.trainers.learner_state import (
    AGAIN,
    BEFORE,
    CURRENT,
    EVENTS,
    FULL,
    GO,
    HEAP,
    LEAST,
    MADE,
    MORE_EVENTS,
    MORE_MERGES,
    MORE_PAIRS,
    MORE_POOL,
    NEED,
    PAIRS,
    POOL,
    RECOUNT,
    RIGHT,
    SIZE,
    TOUCHED,
    UNSURE,
    VOCABULARY,
)
from lengthwise.tokenization.trainers.name_kernels import may_merge, name_token


@jit
def find_pair(slot_key, slot_pair, key):
    """The number of a pair, -1 where it is not known."""
    slot = slot_of(key, len(slot_key))
    while slot_key[slot] != -1:
        if slot_key[slot] == key:
            return slot_pair[slot]
        slot = (slot + 1) & (len(slot_key) - 1)
    return -1


@jit
def put_pair(slot_key, slot_pair, key, pair):
    slot = slot_of(key, len(slot_key))
    while slot_key[slot] != -1:
        slot = (slot + 1) & (len(slot_key) - 1)
    slot_key[slot] = key
    slot_pair[slot] = pair


@jit
def _before(count, key, other_count, other_key):
    return count > other_count or (count == other_count and key < other_key)


@jit
def sink(s, at):
    """Moves an entry of the heap down to where it belongs."""
    heap, counts, size = s.heap, s.heap_count, s.numbers[HEAP]
    pair, count = heap[at], counts[at]
    key = s.key[pair]
    while 2 * at + 1 < size:
        child = 2 * at + 1
        one, two = counts[child], counts[child + 1] if child + 1 < size else -1
        if two > one or (
            two == one and child + 1 < size and s.key[heap[child + 1]] < s.key[heap[child]]
        ):
            child += 1
        if not _before(counts[child], s.key[heap[child]], count, key):
            break
        heap[at], counts[at] = heap[child], counts[child]
        at = child
    heap[at], counts[at] = pair, count


@jit
def _push(s, pair):
    heap, counts, at = s.heap, s.heap_count, s.numbers[HEAP]
    count, key = s.count[pair], s.key[pair]
    s.numbers[HEAP] += 1
    while at > 0:
        parent = (at - 1) >> 1
        if not _before(count, key, counts[parent], s.key[heap[parent]]):
            break
        heap[at], counts[at] = heap[parent], counts[parent]
        at = parent
    heap[at], counts[at] = pair, count


@jit
def _drop_top(s):
    s.numbers[HEAP] -= 1
    last = s.numbers[HEAP]
    s.heap[0], s.heap_count[0] = s.heap[last], s.heap_count[last]
    if last > 1:
        sink(s, 0)


@jit
def _commonest(s):
    """The pair to merge next; -1 where only counting again can tell."""
    while s.numbers[HEAP] > 0:
        pair = s.heap[0]
        if s.number[pair] == 0:
            _drop_top(s)
        elif s.heap_count[0] != s.count[pair]:
            s.heap_count[0] = s.count[pair]
            sink(s, 0)
        else:
            # A pair outside the table has less than LEAST, and UNSURE more at most.
            return pair if s.count[pair] >= s.numbers[LEAST] + s.numbers[UNSURE] else -1
    return -1


@jit
def _touch(s, side, token):
    if s.cursor[side, token] == -2:
        s.cursor[side, token] = -1
        s.touched[s.numbers[TOUCHED]] = 2 * token + side
        s.numbers[TOUCHED] += 1


@jit
def _lose(s, left, right, made, weight):
    if right == made:
        _touch(s, 0, left)
        s.fresh[0, left] -= weight
    elif left == made:
        _touch(s, 1, right)
        s.fresh[1, right] -= weight
    else:
        pair = find_pair(s.slot_key, s.slot_pair, pair_key(left, right))
        if pair >= 0:
            s.count[pair] -= weight


@jit
def _gain(s, side, token, left, right, place, weight):
    if not may_merge(s, left, right):
        return
    _touch(s, side, token)
    s.fresh[side, token] += weight
    s.found[side, token] += 1
    s.event[s.numbers[EVENTS]] = 2 * token + side
    s.event_place[s.numbers[EVENTS]] = place
    s.numbers[EVENTS] += 1


@jit
def _merge(s, pair, made):
    """Puts `made` at all places of a pair, and notes what stands beside it now."""
    tokens, weights = s.tokens, s.weights
    left, right = np.int32(s.key[pair] >> 32), np.int32(s.key[pair] & RIGHT)
    for place in s.pool[s.start[pair] : s.start[pair] + s.number[pair]]:
        if tokens[place] != left:
            continue
        second = place - tokens[place + 1] if tokens[place + 1] < -1 else place + 1
        if tokens[second] != right:
            continue
        end = second - tokens[second + 1] if tokens[second + 1] < -1 else second + 1
        weight = weights[place] if len(weights) else 1
        tokens[place] = made
        tokens[second] = tokens[place + 1] = tokens[end - 1] = place - end
        first = place + tokens[place - 1] if tokens[place - 1] < -1 else place - 1
        before, after = tokens[first], tokens[end]
        if before >= 0:
            _lose(s, before, left, made, weight)
            _gain(s, 0, before, before, made, first, weight)
        if after >= 0:
            _lose(s, right, after, made, weight)
            side = 0 if after == made else 1
            _gain(s, side, after, made, after, place, weight)
    s.number[pair] = 0


@jit
def _key_of(touched, made):
    token = touched >> 1
    return pair_key(made, token) if touched & 1 else pair_key(token, made)


@jit
def _room(s):
    """What has to grow before the pairs that came up can be written down."""
    need = s.numbers[EVENTS]
    if s.numbers[AGAIN]:
        for at in range(s.numbers[TOUCHED]):
            key = _key_of(s.touched[at], s.numbers[CURRENT])
            pair = find_pair(s.slot_key, s.slot_pair, key)
            if pair >= 0:
                need += s.number[pair]
    if s.numbers[POOL] + need > len(s.pool):
        s.numbers[NEED] = s.numbers[POOL] + need
        return MORE_POOL
    pairs = max(s.numbers[PAIRS], s.numbers[HEAP]) + s.numbers[TOUCHED]
    if pairs > len(s.key) or 2 * pairs > len(s.slot_key):
        s.numbers[NEED] = pairs
        return MORE_PAIRS
    return GO


@jit
def _known_again(s, pair, side, token):
    """A pair of the table has more places: they go behind those it has, to the pool's end."""
    new = s.found[side, token]
    s.count[pair] += s.fresh[side, token]
    if new == 0:
        return
    at, old = s.numbers[POOL], s.number[pair]
    s.pool[at : at + old] = s.pool[s.start[pair] : s.start[pair] + old]
    s.start[pair] = at
    s.number[pair] += new
    s.cursor[side, token] = at + old
    s.numbers[POOL] += old + new
    _push(s, pair)


@jit
def _note(s):
    """Writes the pairs that came up with the last token into table, pool and heap."""
    made = s.numbers[CURRENT]
    unsure = 0
    for at in range(s.numbers[TOUCHED]):
        side, token = s.touched[at] & 1, s.touched[at] >> 1
        key = _key_of(s.touched[at], made)
        pair = find_pair(s.slot_key, s.slot_pair, key) if s.numbers[AGAIN] else -1
        gained = s.fresh[side, token]
        if pair >= 0:
            _known_again(s, pair, side, token)
            continue
        if s.numbers[AGAIN] and s.numbers[LEAST] > 1:
            # It may have been seen before, too seldom for the table.
            unsure = max(unsure, gained)
        if gained < s.numbers[LEAST]:
            continue
        pair = s.numbers[PAIRS]
        s.numbers[PAIRS] += 1
        s.key[pair], s.count[pair], s.merged[pair] = key, gained, 0
        s.start[pair] = s.cursor[side, token] = s.numbers[POOL]
        s.number[pair] = s.found[side, token]
        s.numbers[POOL] += s.found[side, token]
        put_pair(s.slot_key, s.slot_pair, key, pair)
        _push(s, pair)
    s.numbers[UNSURE] += unsure
    for at in range(s.numbers[EVENTS]):
        side, token = s.event[at] & 1, s.event[at] >> 1
        if s.cursor[side, token] >= 0:
            s.pool[s.cursor[side, token]] = s.event_place[at]
            s.cursor[side, token] += 1
    for at in range(s.numbers[TOUCHED]):
        side, token = s.touched[at] & 1, s.touched[at] >> 1
        s.fresh[side, token] = s.found[side, token] = 0
        s.cursor[side, token] = -2
    s.numbers[TOUCHED] = s.numbers[EVENTS] = 0
    s.numbers[CURRENT] = -1


@jit
def advance(s, merges):
    """Makes at most so many merges. Returns GO, or why it stopped before."""
    for _ in range(merges):
        if s.numbers[CURRENT] < 0:
            if s.numbers[VOCABULARY] >= s.numbers[SIZE]:
                return FULL
            pair = _commonest(s)
            if pair < 0:
                return RECOUNT
            if 2 * s.number[pair] > len(s.event):
                s.numbers[NEED] = 2 * s.number[pair]
                return MORE_EVENTS
            if s.numbers[MADE] == len(s.left):
                return MORE_MERGES
            _drop_top(s)
            left, right = s.key[pair] >> 32, s.key[pair] & RIGHT
            made, again = name_token(s, left, right)
            if s.count[pair] < BEFORE >> 1:
                at = s.numbers[MADE]
                s.left[at], s.right[at], s.made[at] = left, right, made
                s.numbers[MADE] += 1
            s.merged[pair] = 1
            s.numbers[CURRENT], s.numbers[AGAIN] = made, again
            _merge(s, pair, made)
        status = _room(s)
        if status != GO:
            return status
        _note(s)
    return GO
