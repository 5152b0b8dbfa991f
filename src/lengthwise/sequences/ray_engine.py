"""A build on a Ray cluster: this process reads, plans and keeps the journal; tasks do the rest.

Stretches of text go out as tasks and come back as ids; parts go out as tasks that write their own
files and come back as entries. A bounded number is under way at a time, so that a corpus of any
size takes no more memory here than a small one. Every machine has to see the folder of the build
and of its tokens at the same path: a shared file system, or one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise._utils.messages import first_line
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.encoder import Encoder, Ids
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.orders import Order
from lengthwise.sequences.plan import Part
from lengthwise.sequences.task import Build, Entry, build_part
from lengthwise.sequences.token_store import TokenStore

STRETCH = 1 << 18
"""Characters that one task tokenises."""
_GOODBYE_S = 60.0


class Ray:
    """Tasks of the cluster at $RAY_ADDRESS, of the running one, or of one started here."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise SequenceError(
                "--engine ray needs Ray: pip install ray; --engine local needs nothing"
            ) from error
        self._ray: Any = ray
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)

    def encoder(self, encoder: Encoder) -> Encoder:
        return _Distributed(encoder, self._map)

    def build(
        self, task: Build, todo: Iterable[Part], store: TokenStore, order: Order
    ) -> Iterator[tuple[Part, Entry]]:
        yield from self._map(_build_part, (task, order), todo)

    def _map(
        self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        """(item, function(shared, item)) for each item, as they are finished."""
        ray = self._ray
        remote = ray.remote(function)
        sent = ray.put(shared)
        most = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
        under_way: dict[Any, Any] = {}
        try:
            for item in items:
                under_way[remote.remote(sent, item)] = item
                while len(under_way) >= most:
                    yield self._one(under_way)
            while under_way:
                yield self._one(under_way)
        finally:
            for left in under_way:
                ray.cancel(left)
            # A task that still writes would be in the way of the run that goes on.
            if under_way:
                ray.wait(list(under_way), num_returns=len(under_way), timeout=_GOODBYE_S)

    def _one(self, under_way: dict[Any, Any]) -> tuple[Any, Any]:
        ray = self._ray
        (done, *_), _ = ray.wait(list(under_way), num_returns=1)
        item = under_way.pop(done)
        try:
            return item, ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LengthwiseError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise SequenceError(
                f"Ray lost a task ({first_line(error)}); run the same command again to go on"
            ) from error


class _Distributed(Encoder):
    """The same ids as `inner`, from tasks that take STRETCH characters each."""

    def __init__(self, inner: Encoder, map_items: Callable[..., Iterator[tuple[Any, Any]]]) -> None:
        self.__dict__.update(vars(inner))
        self._inner, self._map = inner, map_items

    def encode(self, texts: list[str]) -> list[Ids]:
        borders = stretches([len(text) for text in texts])
        items = [(n, texts[a:b]) for n, (a, b) in enumerate(borders)]
        found: dict[int, list[Ids]] = {}
        for (number, _), ids in self._map(_encode, self._inner, items):
            found[number] = ids
        return [ids for number in range(len(items)) for ids in found[number]]


def stretches(sizes: list[int]) -> list[tuple[int, int]]:
    """(first, stop) of stretches of texts, each of STRETCH characters or a little more."""
    ends, found, first = np.cumsum(sizes), [], 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        stop = int(np.searchsorted(ends, before + STRETCH)) + 1
        found.append((first, min(stop, len(sizes))))
        first = found[-1][1]
    return found


def _encode(encoder: Encoder, item: tuple[int, list[str]]) -> list[Ids]:
    return encoder.encode(item[1])


def _build_part(shared: tuple[Build, Order], part: Part) -> Entry:
    task, order = shared
    return build_part(task, part, _store(task.tokens, task.settings.memory >> 3), order)


@lru_cache(maxsize=1)
def _store(folder: Path, in_memory: int) -> TokenStore:
    """A worker opens the store once, not once a part."""
    return TokenStore(folder, in_memory)
