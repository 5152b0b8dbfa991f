"""Lists of words that a user names: a file, a line a word."""

from __future__ import annotations

import os
from pathlib import Path

from lengthwise.errors import TokenizerError


def read_terms(path: str) -> list[str]:
    """The lines of a file, without what is empty, each once.

    Args:
        path: of a text file in UTF-8.

    Raises:
        TokenizerError: there is none, it is no such file, or it holds nothing.
    """
    place = Path(os.path.expanduser(path))
    try:
        lines = place.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        why = "it is no text in UTF-8" if isinstance(error, ValueError) else error.strerror
        raise TokenizerError(f"{path} cannot be read as a list of words: {why}") from None
    if any("\0" in line for line in lines):
        raise TokenizerError(f"{path} is no list of words, it is binary: give a text file")
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise TokenizerError(f"{path} has no words: give a file with a word a line")
    return found


__all__ = ["read_terms"]
