"""Texts cut at their headings, by semantic-text-splitter's reader of Markdown.

Sections that fit are whole, small ones side by side; one that does not is cut at the headings
below, then at paragraphs, sentences and words. What stands in a block of code is no heading. A text
without headings is cut at paragraphs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lengthwise.errors import LengthwiseError

# Halves of surrogate pairs, which UTF-8 cannot say.
_SURROGATE = re.compile("[\ud800-\udfff]")


def sections(text: str, count: Callable[[str], int], size: int) -> list[str]:
    """The sections of a text, each of at most `size` tokens; joined they are the text.

    Args:
        text: any; Markdown has headings.
        count: tokens of a text.
        size: at least 1. A character of more is a piece of its own.

    Raises:
        LengthwiseError: where semantic-text-splitter is not installed.
    """
    splitter = _library().from_callback(count, size, trim=False)
    found, start = [], 0
    for each in splitter.chunks(_SURROGATE.sub("\ufffd", text)):
        found.append(text[start : start + len(each)])
        start += len(each)
    return found


def _library() -> Any:
    try:
        from semantic_text_splitter import MarkdownSplitter
    except ModuleNotFoundError:
        raise LengthwiseError(
            "split=headings needs the package semantic-text-splitter: "
            "pip install 'lengthwise[prompting]'"
        ) from None
    return MarkdownSplitter


__all__ = ["sections"]
