"""Counting all pairs that occur often enough, compiled.

First every pair is counted into one of few buckets; a pair whose bucket has less than `least` has
less itself and is left out. So the table holds little more than what is kept, however many
different pairs a text has.
"""

from __future__ import annotations

import numpy as np

from lengthwise.tokenization.compiled import jit
from lengthwise.tokenization.slot_kernels import pair_key, slot_of
from lengthwise.tokenization.trainers.learner_state import (
    HEAP,
    LEAST,
    PAIRS,
    POOL,
    UNSURE,
)
from lengthwise.tokenization.trainers.merge_kernels import find_pair, put_pair, sink
from lengthwise.tokenization.trainers.name_kernels import may_merge

FULL_BUCKET = 1 << 30


@jit
def squeeze(tokens, weights):
    """Closes the gaps behind merged tokens, and drops pieces of one token. Returns the places."""
    to = 1
    at = 1
    while at < len(tokens):
        token = tokens[at]
        if token == -1 and to >= 2 and tokens[to - 1] >= 0 and tokens[to - 2] == -1:
            to -= 1
        elif token != -1 or tokens[to - 1] != -1:
            tokens[to] = token
            if len(weights):
                weights[to] = weights[at]
            to += 1
        at += 1
        while at < len(tokens) and tokens[at] < -1:
            at += 1
    return to


@jit
def fill_buckets(s, buckets):
    """Counts pairs by the bucket they fall into, up to `FULL_BUCKET`, int32 `[a power of two]`.

    Returns the largest.
    """
    tokens, weights = s.tokens, s.weights
    for at in range(len(tokens) - 1):
        left, right = tokens[at], tokens[at + 1]
        if left >= 0 and right >= 0 and may_merge(s, left, right):
            weight = weights[at] if len(weights) else 1
            bucket = slot_of(pair_key(left, right), len(buckets))
            buckets[bucket] = min(np.int64(buckets[bucket]) + weight, FULL_BUCKET)
    return buckets.max()


@jit
def add_merged(s, keys, counts, buckets):
    """Begins the table with pairs that were merged; they keep what they counted."""
    s.slot_key[:] = -1
    for pair in range(len(keys)):
        bucket = slot_of(keys[pair], len(buckets))
        buckets[bucket] = max(buckets[bucket], s.numbers[LEAST])
        s.key[pair], s.count[pair], s.merged[pair] = keys[pair], counts[pair], 1
        s.number[pair] = 0
        put_pair(s.slot_key, s.slot_pair, keys[pair], pair)
    s.numbers[PAIRS] = len(keys)


@jit
def count_pairs(s, buckets):
    """Counts the pairs of full buckets into the table. False where it is too small."""
    tokens, weights, least = s.tokens, s.weights, s.numbers[LEAST]
    first = s.numbers[PAIRS]
    pairs = first
    for at in range(len(tokens) - 1):
        left, right = tokens[at], tokens[at + 1]
        if left < 0 or right < 0:
            continue
        key = pair_key(left, right)
        if buckets[slot_of(key, len(buckets))] < least or not may_merge(s, left, right):
            continue
        pair = find_pair(s.slot_key, s.slot_pair, key)
        if pair < 0:
            if 2 * pairs >= len(s.slot_key) or pairs >= len(s.key):
                return False
            pair = pairs
            pairs += 1
            s.key[pair], s.count[pair], s.number[pair], s.merged[pair] = key, 0, 0, 0
            put_pair(s.slot_key, s.slot_pair, key, pair)
        s.number[pair] += 1
        if pair >= first:
            s.count[pair] += weights[at] if len(weights) else 1
    s.numbers[PAIRS] = pairs
    return True


@jit
def keep_common(s):
    """Drops the pairs below `LEAST` that are not merged. Returns how many places the rest have."""
    kept = 0
    places = 0
    for pair in range(s.numbers[PAIRS]):
        if s.merged[pair] or s.count[pair] >= s.numbers[LEAST]:
            s.key[kept], s.count[kept] = s.key[pair], s.count[pair]
            s.merged[kept], s.number[kept] = s.merged[pair], s.number[pair]
            s.start[kept] = places
            places += s.number[pair]
            kept += 1
    s.slot_key[:] = -1
    for pair in range(kept):
        put_pair(s.slot_key, s.slot_pair, s.key[pair], pair)
    s.numbers[PAIRS] = kept
    return places


@jit
def place_pairs(s, buckets):
    """Writes the places of all pairs of the table, in order, and makes the heap."""
    tokens, least, pairs = s.tokens, s.numbers[LEAST], s.numbers[PAIRS]
    s.number[:pairs] = 0
    for at in range(len(tokens) - 1):
        left, right = tokens[at], tokens[at + 1]
        if left < 0 or right < 0:
            continue
        key = pair_key(left, right)
        if buckets[slot_of(key, len(buckets))] < least:
            continue
        pair = find_pair(s.slot_key, s.slot_pair, key)
        if pair >= 0:
            s.pool[s.start[pair] + s.number[pair]] = at
            s.number[pair] += 1
    size = 0
    used = 0
    for pair in range(pairs):
        used += s.number[pair]
        if s.number[pair] > 0:
            s.heap[size], s.heap_count[size] = pair, s.count[pair]
            size += 1
    s.numbers[HEAP], s.numbers[POOL], s.numbers[UNSURE] = size, used, 0
    for at in range(size // 2 - 1, -1, -1):
        sink(s, at)


@jit
def grow_table(s):
    """Puts all pairs into a new, empty table."""
    s.slot_key[:] = -1
    for pair in range(s.numbers[PAIRS]):
        put_pair(s.slot_key, s.slot_pair, s.key[pair], pair)
