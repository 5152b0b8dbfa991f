"""What a user may have meant by a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# How alike two words are at least, as difflib counts: 1 for the same.
NEAR = 0.5


def closest(word: str, known: Iterable[str], near: float = NEAR) -> str | None:
    """The known word that is most like `word`, capitals aside; None where none is near."""
    spelt = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), spelt, 1, near)
    return spelt[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """`; did you mean 'x'?`, to go on a refusal with. otherwise: said where nothing is near."""
    found = closest(word, known)
    return otherwise if found is None else f"; did you mean {found!r}?"


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the list of what is known."""
    names = list(known)
    return did_you_mean(word, names, f"; known are {', '.join(names)}" if names else "")


def hint(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'? allowed: x, y`, the first half only where something is near."""
    names = list(allowed)
    return f"{did_you_mean(word, names, ';')} allowed: {', '.join(names)}"


__all__ = ["did_you_mean", "hint", "nearest", "closest"]
