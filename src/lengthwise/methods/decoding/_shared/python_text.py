"""Where in a text there is code of Python, and where in that code there is text."""

from __future__ import annotations

import re

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

__all__ = ["code_of", "inside_text"]
