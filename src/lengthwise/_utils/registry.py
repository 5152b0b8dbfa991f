"""What is registered under a group of entry points: names at once, objects when they are used.

Ours and a third party's look the same. Names, packages and targets are read from the metadata of
installed packages, which imports nothing. An object is imported when it is asked for, it alone. One
that cannot be imported, or that breaks the contract of its registry, carries its error and harms no
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from lengthwise._utils.declared import declared
from lengthwise._utils.messages import first_line
from lengthwise.errors import LengthwiseError

OURS = "lengthwise"
T = TypeVar("T")


class Entry(Generic[T]):
    """A name and what stands behind it.

    name: as users write it. target: the `module:object` of the entry point. package: the
    distribution that declares it. load: imports the object; a text says why it is not asked for.
    """

    def __init__(self, name: str, target: str, package: str, load: Callable[[], T] | str) -> None:
        self.name, self.target, self.package = name, target, package
        self._load = load

    @property
    def value(self) -> T | None:
        """The object, imported when this is first asked; None where it cannot be used."""
        return self._loaded[0]

    @property
    def error(self) -> str | None:
        """Why it cannot be used, in one line; None where it can. Imports it."""
        return self._loaded[1]

    def declared(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """What the class of the target says of itself, read without importing it.

        names: what the text may refer to. Empty for packages of others, and where the text says
        nothing that can be read so.
        """
        return declared(self.target, names) if self.package == OURS else {}

    @cached_property
    def _loaded(self) -> tuple[T | None, str | None]:
        if isinstance(self._load, str):
            return None, self._load
        # Whatever a stranger's module raises while it is imported must stay with its own entry.
        try:
            return self._load(), None
        except (Exception, SystemExit) as error:
            return None, first_line(f"{type(error).__name__}: {error}")


class Registry(Generic[T]):
    """Everything under one group of entry points, ours first, then by package and name.

    Args:
        group: the group, as `lengthwise.methods`.
        what: what one of them is called, in the line that refuses one.
        check: given a name and what was imported for it, gives it back as what it has to be, or
            raises TypeError or ValueError that says what it lacks.
        error: what is raised for one that cannot be used.
        entry: the class of its entries.
    """

    def __init__(
        self,
        group: str,
        what: str,
        check: Callable[[str, object], T],
        error: type[LengthwiseError] = LengthwiseError,
        entry: type[Entry[T]] = Entry,
    ) -> None:
        self.group, self.what = group, what
        self._check, self._error = check, error
        self._entry = entry
        self._found: tuple[Entry[T], ...] | None = None

    def entries(self) -> tuple[Entry[T], ...]:
        """Every entry, with those that cannot be used. Imports none of them."""
        if self._found is None:
            self._found = tuple(self._read())
        return self._found

    def refresh(self) -> None:
        """Forgets what was found, after packages were installed or removed."""
        self._found = None

    def entry(self, name: str) -> Entry[T] | None:
        """The entry of that name, the first that was declared; None where there is none."""
        return next((each for each in self.entries() if each.name == name), None)

    def get(self, name: str) -> T | None:
        """The object of that name, imported now; None where there is no such name.

        Raises:
            LengthwiseError: there is one and it cannot be used; of the registry's own kind.
        """
        found = self.entry(name)
        if found is None:
            return None
        if found.value is not None:
            return found.value
        raise self._error(
            f"{self.what} {name!r} of package {found.package!r} cannot be used: {found.error}"
        )

    def usable(self) -> dict[str, T]:
        """All that can be used, by name. Imports everything."""
        return {each.name: each.value for each in self.entries() if each.value is not None}

    def __iter__(self) -> Iterator[str]:
        """The names. Imports nothing."""
        return iter(dict.fromkeys(each.name for each in self.entries()))

    def __contains__(self, name: object) -> bool:
        return any(each.name == name for each in self.entries())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _read(self) -> Iterator[Entry[T]]:
        points = [
            (point.dist.name if point.dist else "?", point)
            for point in entry_points(group=self.group)
        ]
        points.sort(key=lambda item: (item[0] != OURS, item[0], item[1].name))
        seen: dict[str, tuple[str, str]] = {}
        for package, point in points:
            this = (package, point.value)
            first = seen.setdefault(point.name, this)
            if first is this:
                yield self._entry(point.name, point.value, package, self._loader(point))
            elif first != this:
                taken = f"the name is already taken by package {first[0]!r}"
                yield self._entry(point.name, point.value, package, taken)
            # Else it is one distribution found twice on the path.

    def _loader(self, point: EntryPoint) -> Callable[[], T]:
        return lambda: self._check(point.name, point.load())


__all__ = ["OURS", "Entry", "Registry"]
