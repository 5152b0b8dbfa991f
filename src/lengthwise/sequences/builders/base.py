"""What a sequence builder is, and which there are: the entry points `lengthwise.builders`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from lengthwise._utils.papers import Papers
from lengthwise._utils.registry import Registry
from lengthwise._utils.suggestions import hint
from lengthwise.methods.options import options, way_of
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.orders import Order
from lengthwise.sequences.rows import Built, Documents
from lengthwise.sequences.token_store import TokenStore

T = TypeVar("T")


class Described(Protocol):
    """What a manifest says of the way in which rows were made.

    document_mask: whether attention may stay within the pieces of a row.
    target_token: whether a row has one token more than inputs, the last one being only a target.
    tokens: special tokens that it writes into rows.
    """

    name: ClassVar[str]
    document_mask: ClassVar[bool]
    target_token: ClassVar[bool]

    @property
    def max_length(self) -> int:
        """The longest input of a row, in tokens."""
        ...

    @property
    def tokens(self) -> tuple[str, ...]: ...


class Builder(Described, Protocol):
    """One way to make rows. Its dataclass fields are its options.

    paper: what it rests on: a Paper, a tuple of them, or None without one.
    whole_documents: whether a part of the corpus ends where a document ends; if not, it ends at a
        multiple of max_length tokens.
    later: options that came after data sets were built, with the value that leaves those the same.
    """

    paper: ClassVar[Papers]
    whole_documents: ClassVar[bool]
    later: ClassVar[dict[str, str]]

    def prepare(self, store: TokenStore, encoder: Encoder, seed: int) -> None:
        """Called once before parts are built, with `tokens` in the encoder's vocabulary."""

    def arrange(self, order: Order, store: TokenStore, folder: Path) -> Order:
        """The order as this method needs it; what has to be kept on disk goes to `folder`."""
        ...

    def inseparable(self, first: int, second: int) -> bool:
        """Whether no part may end between these two documents, neighbours in the order."""
        ...

    def build(self, documents: Documents, part: int) -> Built:
        """Rows of the given documents: the same for the same documents, part and seed."""
        ...


def make_way(
    ways: Registry[type[T]], method: str, settings: Mapping[str, str], max_length: int | None
) -> T:
    """What a registry has under a name, with options as text.

    Args:
        ways: the registry.
        method: the name.
        settings: options by name.
        max_length: tokens of a row; None is the method's default.

    Raises:
        SequenceError: for an unknown method or option.
        RecipeError: for a value that is not allowed.
    """
    kind = ways.get(method)
    if kind is None:
        raise SequenceError(f"there is no {ways.what} {method!r}{hint(method, ways)}")
    known = {option.name: option for option in options(kind)}
    values: dict[str, Any] = {}
    if max_length is not None:
        values["max_length"] = known["max_length"].check(max_length)
    for name, text in settings.items():
        if name not in known:
            raise SequenceError(f"{method} has no option {name!r}{hint(name, known)}")
        if name in values:
            raise SequenceError(f"--max-length and --set {name} are the same option: give one")
        values[name] = known[name].read(text)
    return kind(**values)


def _check(name: str, found: object) -> type[Builder]:
    return way_of(name, found, (Described, Builder), "builder")


BUILDERS: Registry[type[Builder]] = Registry(
    "lengthwise.builders", "sequence builder", _check, SequenceError
)


def make_builder(
    method: str, settings: Mapping[str, str], max_length: int | None = None
) -> Builder:
    """The builder called `method`, as `make_way` makes it."""
    return make_way(BUILDERS, method, settings, max_length)


def settings_of(builder: Described) -> dict[str, Any]:
    """The options of a builder as they are, defaults included."""
    return dataclasses.asdict(builder)  # type: ignore[call-overload,no-any-return]
