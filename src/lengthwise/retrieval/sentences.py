"""Texts cut at their sentences, by sentencex (Wikimedia's, some 300 languages).

sentencex looks a byte back for a space. It fails at spaces of several bytes and at halves of
surrogate pairs, and of lists and indented text it leaves out ends of lines. So it is shown a text
of equal length without the former, each sentence is looked up in it, and the text itself is cut
there.
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
    starts, at = [], 0
    for each in sentencex.segment(language, shown):
        start = shown.find(each, at)
        if each and start >= 0:
            starts.append(start)
            at = start + len(each)
    if not starts:
        return [text] if text else []
    # What was left out belongs to the sentence before, and at the beginning to the first.
    starts[0] = 0
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


__all__ = ["sentences"]
