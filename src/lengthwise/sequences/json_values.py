"""The values of a .json file one by one: those of an array, or of several written in a row.

Only one of them is held at a time, so an array of a million documents takes no more memory than one
of ten.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from lengthwise.sequences.errors import UnreadableError
from lengthwise.sequences.streams import opened

_BLOCK = 1 << 16
_BLANK = " \t\r\n"


class TooLongError(Exception):
    """Raised where value `number`, from 0, has more characters than are allowed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def json_values(location: str, limit: int) -> Iterator[tuple[int, Any]]:
    """(characters, value) of every document of a .json file. limit: characters of one of them.

    Raises UnreadableError where the file is no JSON or breaks off, TooLongError.
    """
    with opened(location) as file:
        text = _Text(file, limit)
        try:
            array = text.peek() == "["
            if array:
                text.take()
            elif text.peek() not in ("{", ""):
                raise ValueError("neither an array nor an object")
            number = 0
            while text.peek() not in ("", "]"):
                yield text.value(number)
                number += 1
                if array and text.peek() == ",":
                    text.take()
                elif array and text.peek() != "]":
                    raise ValueError(f"it breaks off after {number:,} values")
            if array and text.peek() != "]":
                raise ValueError("it breaks off")
        except (ValueError, RecursionError) as error:  # the latter of lists nested without end
            raise UnreadableError(location, f"no whole JSON ({_said(error)})") from error


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


class _Text:
    """A window on the text of a file that grows until one value is whole in it."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._limit, self._decoder = file, limit, json.JSONDecoder()
        self._bytes = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more(_BLOCK)

    def take(self) -> None:
        self._at += 1

    def value(self, number: int) -> tuple[int, Any]:
        """(characters, value) of what begins at the next character."""
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
                # A number may go on beyond the window.
                if end < len(self._text) or self._ended:
                    size, self._at = end - self._at, end
                    return size, found
            except ValueError:
                if self._ended:
                    raise
            held = len(self._text) - self._at
            if held > self._limit:
                raise TooLongError(number)
            # Twice as much each time: what is not whole is parsed again.
            self._more(max(_BLOCK, held))

    def _more(self, size: int) -> None:
        block = self._file.read(size)
        self._ended = not block
        new = self._bytes.decode(block, final=self._ended)
        self._text, self._at = self._text[self._at :] + new, 0
