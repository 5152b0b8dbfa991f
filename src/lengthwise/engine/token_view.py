"""A text as plug-ins see it: one that grows, and that only the engine writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq
from typing import Any, overload


class TokenView(Seq[int]):
    """Token ids of a list that somebody else writes. Nothing is copied, and nothing can be changed.

    A slice is a list of its own. Iterating is as fast as over the list itself.
    """

    __slots__ = ("_ids",)

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        return self._ids[place]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids)

    def __reversed__(self) -> Iterator[int]:
        return reversed(self._ids)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        return self._ids.index(value, start, len(self._ids) if stop is None else stop)

    def count(self, value: Any) -> int:
        return self._ids.count(value)

    def __eq__(self, other: object) -> bool:
        return self._ids == (other._ids if isinstance(other, TokenView) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TokenView({self._ids!r})"
