"""A table of what was learned, of the keys that were asked for last."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# Keys that are remembered: what asks for more comes from outside, and may never end.
MOST = 256


class Latest(Generic[Key, Value]):
    """Values by key, each made when its key is first asked for."""

    def __init__(self, make: Callable[[Key], Value], most: int = MOST) -> None:
        self._make, self._most = make, most
        self._held: dict[Key, Value] = {}

    def __getitem__(self, key: Key) -> Value:
        # A dict is in the order of its insertions.
        value = self._held.pop(key) if key in self._held else self._make(key)
        self._held[key] = value
        while len(self._held) > self._most:
            del self._held[next(iter(self._held))]
        return value

    def __iter__(self) -> Iterator[Key]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


__all__ = ["MOST", "Latest"]
