"""Words of a text, as a reader counts them."""

from __future__ import annotations

import re

# Scripts that put no space between words: each of their characters counts.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = rf"(?:(?![{_ALONE}])[^\W_])"
_WORD = re.compile(rf"[{_ALONE}]|{_LETTER}+(?:['\u2019\-]{_LETTER}+)*")


def words_of(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, with hyphens and apostrophes inside them.

    Args:
        text: any. Of Chinese characters and Japanese kana each is a word.
    """
    return _WORD.findall(text)


def count_words(text: str) -> int:
    """How many words a text has.

    Args:
        text: as in `words_of`.
    """
    return len(words_of(text))


__all__ = ["count_words", "words_of"]
