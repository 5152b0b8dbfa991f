"""Texts cut at their sentences, by sentencex (Wikimedia's, some 300 languages)."""

from __future__ import annotations

import sentencex


def sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a text, each with what stands behind it; joined they are the text.

    Args:
        text: any.
        language: its code, such as "de"; abbreviations hang on it. An unknown one is read by the
            rules of the nearest.
    """
    return list(sentencex.segment(language, text))


__all__ = ["sentences"]
