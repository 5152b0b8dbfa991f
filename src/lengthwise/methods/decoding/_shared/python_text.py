"""Where in a text there is code of Python, and where in that code there is text."""

from __future__ import annotations

import re
from typing import NamedTuple

from lengthwise.tokenization.detokenise import UNFINISHED

FENCE = "```"
_OPENS = re.compile(r"#|\"\"\"|'''|\"|'")


def code_of(text: str) -> str | None:
    """The code at the end of a text.

    Args:
        text: prose with fences of Markdown, or code alone.

    Returns:
        What stands in the fence that is open at the end. The whole text where there is no fence;
        None behind a closed one, and in the line that opens it.
    """
    parts = text.split(FENCE)
    if len(parts) == 1:
        return text
    if len(parts) % 2:
        return None
    _, newline, code = parts[-1].partition("\n")
    return code if newline else None


def inside_text(code: str) -> bool:
    """Whether code ends in a string or a comment, where a dot is no operator.

    Args:
        code: of Python, up to where it is being written.
    """
    place = 0
    while (found := _OPENS.search(code, place)) is not None:
        place = _closes(code, found.group(), found.end())
        if place < 0:
            return True
    return False


def _closes(code: str, mark: str, place: int) -> int:
    """Behind the end of a comment or a string; -1 where it is open."""
    if mark == "#":
        return code.find("\n", place)
    found = _ENDS[mark].match(code, place)
    return found.end() if found is not None else -1


class Place(NamedTuple):
    """The end of a text. fences: how many there are. behind: the last of them. start: of the code
    that is open; -1 where none is. inside: it ends in a string or a comment. free: in code, a place
    outside of those before which nothing has to be looked at again."""

    fences: int = 0
    behind: int = 0
    start: int = 0
    inside: bool = False
    free: int = 0


# That of an empty text.
BEGINNING = Place()


def read_on(text: str, known: Place = BEGINNING) -> Place:
    """The end of a text that goes on: `code_of` and `inside_text` at the price of what is new.

    Args:
        text: as in `code_of`.
        known: the end of a text that it begins with.
    """
    fences, behind = known.fences, known.behind
    while (found := text.find(FENCE, behind)) >= 0:
        fences, behind = fences + 1, found + len(FENCE)
    start = 0
    if fences:
        start = text.find("\n", behind) + 1 if fences % 2 else 0
        start = start or -1
    if start < 0:
        return Place(fences, behind, start)
    free = place = max(start, known.free)
    while (opens := _OPENS.search(text, place)) is not None:
        place = _closes(text, opens.group(), opens.end())
        if place < 0:
            return Place(fences, behind, start, True, free)
        # Two quotes may become three.
        if opens.start() + 3 <= len(text):
            free = place
    if place == free:
        # Bytes of a character that are still to come may be fewer than stand for them now.
        free = max(free, len(text.rstrip(UNFINISHED)))
    return Place(fences, behind, start, False, free)


# A string of one line ends with the line, closed or not.
_ENDS = {
    mark: re.compile(
        rf"(?:\\.|[^\\\n{mark}])*(?:{mark}|\n)"
        if len(mark) == 1
        else rf"(?:\\.|(?!{mark})[^\\])*{mark}",
        re.DOTALL,
    )
    for mark in ("'", '"', "'''", '"""')
}

__all__ = ["BEGINNING", "Place", "code_of", "inside_text", "read_on"]
