"""Texts cut at their sentences, by sentencex (Wikimedia's, some 300 languages).

sentencex looks a byte back for a space. It fails at spaces of several bytes and at halves of
surrogate pairs. So it is shown a text of equal length without them, and the text itself is cut
where that one is.
"""

from __future__ import annotations

import re

import sentencex

_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a text, each with what stands behind it; joined they are the text.

    Args:
        text: any.
        language: its code, such as "de"; abbreviations hang on it. An unknown one is read by the
            rules of the nearest.
    """
    shown = _WIDE_SPACE.sub(" ", _SURROGATE.sub("\ufffd", text))
    found, start = [], 0
    for each in sentencex.segment(language, shown):
        found.append(text[start : start + len(each)])
        start += len(each)
    return found


__all__ = ["sentences"]
