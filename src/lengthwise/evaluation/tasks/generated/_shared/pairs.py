"""Keys and values that nothing can be known of, as an object of JSON, one pair a line."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable, Iterable, Sequence as Seq
from typing import Generic, TypeVar

T = TypeVar("T")
Pair = tuple[str, str | list[str]]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Grown(Generic[T]):
    """Items that are made when they are first asked for, so that more of them begin with fewer.

    Args:
        make: the next item. Nothing else may draw from the source of chance that it uses.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._items: list[T] = []

    def first(self, count: int) -> list[T]:
        """So many of them, from the first on."""
        while len(self._items) < count:
            self._items.append(self._make())
        return self._items[:count]


def apart(draw: random.Random) -> random.Random:
    """A source of chance of its own, drawn from another."""
    return random.Random(draw.getrandbits(64))


def drawn_uuid(draw: random.Random) -> str:
    """A UUID (version 4) from a source of chance."""
    return str(uuid.UUID(int=draw.getrandbits(128), version=4))


def uuid_pairs(draw: random.Random) -> Grown[Pair]:
    """Pairs of UUIDs without end.

    Args:
        draw: from which a source of their own is drawn.
    """
    own = apart(draw)
    return Grown(lambda: (drawn_uuid(own), drawn_uuid(own)))


def placed(others: Seq[T], needles: Seq[T], depths: Seq[float]) -> tuple[list[T], list[int]]:
    """Needles among other items, each in the place that is next to its depth and free.

    Args:
        others: in order.
        needles: that are put among them, in the order of their depths.
        depths: of each, from 0 to 1.

    Returns:
        All items, and the place of each needle.
    """
    total = len(others) + len(needles)
    order = sorted(range(len(needles)), key=lambda n: depths[n])
    at, places = -1, [0] * len(needles)
    for rank, n in enumerate(order):
        last = total - len(needles) + rank
        at = max(at + 1, min(round(depths[n] * (total - 1)), last))
        places[n] = at
    items, there = iter(others), dict(zip(places, needles, strict=True))
    return [there[n] if n in there else next(items) for n in range(total)], places


def as_json(pairs: Iterable[Pair]) -> str:
    """An object of JSON with a pair a line."""
    return "{" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in pairs) + "}"


__all__ = ["UUID", "Grown", "Pair", "apart", "as_json", "drawn_uuid", "placed", "uuid_pairs"]
