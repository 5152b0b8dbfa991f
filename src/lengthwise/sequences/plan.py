"""A corpus in its order, cut into parts that can be built alone.

The size of a part depends on the method's longest row and on nothing of the machine, so neither
memory nor the number of workers changes what is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lengthwise.sequences.builders.base import Builder
from lengthwise.sequences.orders import STRETCH, Order, count_of
from lengthwise.sequences.rows import Documents
from lengthwise.sequences.token_store import TokenStore

PART_TOKENS = 1 << 24
PART_ROWS = 128
"""A part has at least so many rows' tokens: its last rows may be poorly filled."""
PART_DOCUMENTS = 1 << 18


@dataclass(frozen=True)
class Part:
    """Places first to stop - 1 of the order; `skip` tokens of the first document belong to the part
    before, and after `tokens` tokens the part ends."""

    number: int
    first: int
    stop: int
    skip: int
    tokens: int


def part_tokens(builder: Builder) -> int:
    """Tokens of a part: a multiple of the longest row."""
    longest = builder.max_length
    return max(PART_ROWS, PART_TOKENS // longest) * longest


def parts(store: TokenStore, order: Order, builder: Builder) -> Iterator[Part]:
    """The parts of the whole corpus, in order."""
    if builder.whole_documents:
        return _whole(store, order, builder)
    return _cut(store, order, part_tokens(builder))


def documents_of(part: Part, store: TokenStore, order: Order) -> Documents:
    """What a part consists of."""
    numbers = order.documents(part.first, part.stop)
    starts, lengths = store.spans(numbers)
    starts[0] += part.skip
    lengths[0] -= part.skip
    lengths[-1] -= lengths.sum() - part.tokens
    return Documents(numbers, starts, lengths)


def _stretches(store: TokenStore, order: Order) -> Iterator[tuple[int, np.ndarray]]:
    count = count_of(order, store)
    for first in range(0, count, STRETCH):
        numbers = order.documents(first, min(first + STRETCH, count))
        yield first, np.append(0, np.cumsum(store.spans(numbers)[1]))


def _whole(store: TokenStore, order: Order, builder: Builder) -> Iterator[Part]:
    goal, count = part_tokens(builder), count_of(order, store)
    number = first = tokens = 0
    for begin, ends in _stretches(store, order):
        # What the part before took over the end of its stretch is behind us.
        place, last = max(0, first - begin), len(ends) - 1
        while place < last:
            # The document that reaches the goal still belongs to the part.
            stop = int(np.searchsorted(ends, ends[place] + goal - tokens))
            stop = min(stop, first + PART_DOCUMENTS - begin)
            if stop > last:
                tokens += int(ends[last] - ends[place])
                break
            tokens += int(ends[stop] - ends[place])
            if 0 < begin + stop < count:
                around = order.documents(begin + stop - 1, begin + stop + 1)
                if builder.inseparable(*around.tolist()):
                    tokens += int(store.spans(around[1:])[1][0])
                    stop += 1
            yield Part(number, first, begin + stop, 0, tokens)
            number, first, tokens, place = number + 1, begin + stop, 0, stop
    if tokens:
        yield Part(number, first, count, 0, tokens)


def _cut(store: TokenStore, order: Order, goal: int) -> Iterator[Part]:
    number = first = skip = passed = 0
    for begin, ends in _stretches(store, order):
        while (border := (number + 1) * goal) <= passed + int(ends[-1]):
            stop = int(np.searchsorted(ends, border - passed))
            yield Part(number, first, begin + stop, skip, goal)
            number += 1
            over = int(ends[stop]) + passed - border
            first = begin + stop - (1 if over else 0)
            skip = int(ends[stop] - ends[stop - 1]) - over if over else 0
        passed += int(ends[-1])
    if passed > number * goal:
        yield Part(number, first, count_of(order, store), skip, passed - number * goal)
