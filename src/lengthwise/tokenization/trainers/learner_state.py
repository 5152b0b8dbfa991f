"""What learning merges holds: the names of its numbers, and its arrays.

Not compiled itself, so that it is read without numba.
"""

from __future__ import annotations

from typing import Any, NamedTuple

GO, FULL, RECOUNT, MORE_EVENTS, MORE_POOL, MORE_PAIRS, MORE_MERGES = range(7)
(
    VOCABULARY, SIZE, MADE, POOL, PAIRS, HEAP, LEAST, UNSURE, EVENTS, TOUCHED, CURRENT, AGAIN, NEED,
    MOST_WORDS, PAST_COLON, LONGEST, NEVER,
) = range(17)  # fmt: skip
NUMBERS = 17
STARTS_BLANK, ENDS_BLANK, ENDS_COLON, CLOSED = 1, 2, 4, 8
BEFORE = 1 << 40
"""Counts of pairs that were merged before this run."""
RIGHT = (1 << 32) - 1
"""Of the key of a pair, its right token."""


class State(NamedTuple):
    """What learning holds: numpy arrays, so that compiled code and Python see the same.

    tokens: int32 `[places]`. weights: how often a place counts, int32 `[places]`; of length 0 where
    each counts once. By token: digest, power (of the hash, by length), length (bytes), words,
    edges. By what a token spells: spelled (digest), spelled_id. left, right, made: of every merge.
    By slot of the table: slot_key, slot_pair. By pair: key, count, start and number (its run in
    the pool), merged.
    heap, heap_count: pairs. fresh, found, cursor `[2, tokens]`: counts, places and where to write
    them, of what stands left (0) and right (1) of the token that is being made. touched, event,
    event_place: the same, as they come. never: the digest of what no token spells, uint64 `[1]`.
    numbers: by the names above.
    """

    tokens: Any
    weights: Any
    digest: Any
    power: Any
    length: Any
    words: Any
    edges: Any
    spelled: Any
    spelled_id: Any
    left: Any
    right: Any
    made: Any
    slot_key: Any
    slot_pair: Any
    key: Any
    count: Any
    start: Any
    number: Any
    merged: Any
    pool: Any
    heap: Any
    heap_count: Any
    fresh: Any
    found: Any
    cursor: Any
    touched: Any
    event: Any
    event_place: Any
    never: Any
    numbers: Any
