"""Who does the work of a build: this process, or a Ray cluster.

Two things cost time, and both fall into pieces that need nothing of each other: texts that go
through the tokenizer, and parts of the corpus that become rows. An engine says where the pieces are
worked on. Which pieces there are is decided before, so every engine gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from lengthwise._utils.suggestions import hint
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.orders import Order
from lengthwise.sequences.plan import Part
from lengthwise.sequences.task import Build, Entry, build_part
from lengthwise.sequences.token_store import TokenStore

ENGINES = ("local", "ray")


class Engine(Protocol):
    """Works on pieces of a build."""

    def encoder(self, encoder: Encoder) -> Encoder:
        """One that gives the same ids, worked out where this engine works."""
        ...

    def build(
        self, task: Build, todo: Iterable[Part], store: TokenStore, order: Order
    ) -> Iterator[tuple[Part, Entry]]:
        """Makes the files of each part and gives its entry, in any order."""
        ...


class Local:
    """This process, one part after another."""

    def encoder(self, encoder: Encoder) -> Encoder:
        return encoder

    def build(
        self, task: Build, todo: Iterable[Part], store: TokenStore, order: Order
    ) -> Iterator[tuple[Part, Entry]]:
        for part in todo:
            yield part, build_part(task, part, store, order)


def make_engine(name: str) -> Engine:
    """The engine called `name`; raises SequenceError where there is none or its package is missing.
    """  # fmt: skip
    if name not in ENGINES:
        raise SequenceError(f"there is no engine {name!r}{hint(name, ENGINES)}")
    if name == "local":
        return Local()
    from lengthwise.sequences.ray_engine import Ray

    return Ray()
