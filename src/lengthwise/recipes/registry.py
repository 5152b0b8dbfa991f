"""Which methods there are: every entry point of the group `lengthwise.methods`, ours and others'.

An entry point that cannot be loaded, or whose class breaks the contract, is listed with its error
and harms no other.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Question
from lengthwise.methods.options import options

GROUP = "lengthwise.methods"
OURS = "lengthwise"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Registered:
    """A name and what stands behind it: cls, or error where it cannot be used.

    target is the `module:class` of the entry point, package the distribution that declares it.
    """

    name: str
    target: str
    package: str
    cls: type[Method] | None = None
    error: str | None = None


@cache
def registered() -> tuple[Registered, ...]:
    """Everything registered, ours first, then by package and name. `refresh` looks again."""
    points = [
        (point.dist.name if point.dist else "?", point) for point in entry_points(group=GROUP)
    ]
    points.sort(key=lambda item: (item[0] != OURS, item[0], item[1].name))
    found: list[Registered] = []
    seen: dict[str, Registered] = {}
    for package, point in points:
        first = seen.get(point.name)
        if first is not None and first.target == point.value and first.package == package:
            continue  # One distribution found twice on the path.
        if first is not None:
            error = f"the name is already taken by package {first.package!r}"
            found.append(Registered(point.name, point.value, package, error=error))
            continue
        seen[point.name] = _load(package, point)
        found.append(seen[point.name])
    return tuple(found)


def refresh() -> None:
    """Forgets what was found, after packages were installed or removed."""
    registered.cache_clear()


def methods() -> dict[str, type[Method]]:
    """The usable methods by name, ours first."""
    return {item.name: item.cls for item in registered() if item.cls is not None}


def find(name: str) -> type[Method]:
    """The class of a method; RecipeError where it is unknown (with the nearest name) or broken."""
    broken = None
    for item in registered():
        if item.name == name:
            if item.cls is not None:
                return item.cls
            broken = broken or item
    if broken is not None:
        raise RecipeError(
            f"method {name!r} of package {broken.package!r} cannot be used: {broken.error}"
        )
    if name == "full":
        raise RecipeError(
            "'full' is full attention, the recipe without any method: it has no options and "
            "nothing to describe"
        )
    known = ["full", *methods()]
    raise RecipeError(f"unknown method {name!r}{nearest(name, known)}")


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?`, or the list of what is known."""
    close = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if known else ""


def _load(package: str, point: EntryPoint) -> Registered:
    # Whatever a stranger's module raises while it is imported must stay with its own entry.
    try:
        cls = point.load()
        _check(point.name, cls)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return Registered(point.name, point.value, package, error=text)
    return Registered(point.name, point.value, package, cls)


def _check(name: str, cls: object) -> None:
    if not (isinstance(cls, type) and issubclass(cls, Method) and dataclasses.is_dataclass(cls)):
        raise TypeError("it is not a dataclass that inherits lengthwise.methods.base.Method")
    for attribute, kind in (("name", str), ("question", Question), ("paper", str)):
        if not isinstance(getattr(cls, attribute, None), kind):
            raise TypeError(f"its class attribute {attribute!r} is missing or no {kind.__name__}")
    if cls.name != name or not _NAME.fullmatch(name) or name == "full":
        raise ValueError(
            f"its class is named {cls.name!r} and its entry point {name!r}; both must be one word "
            "of small letters, digits and _, other than 'full'"
        )
    options(cls)
    cls()


__all__ = ["GROUP", "Registered", "find", "methods", "nearest", "refresh", "registered"]
