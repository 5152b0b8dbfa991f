"""Words of a text, as a reader counts them."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

# Scripts that put no space between words: each of their characters counts.
_ALONE = (
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
# Where Unicode has marks: accents and vowel signs, which `\w` leaves out.
_PLACES = (range(0x300, 0x1F000), range(0xE0100, 0xE01F0))


def _marks() -> str:
    """All marks, as ranges of a class of characters, and what joins letters behind one."""
    signs = (chr(place) for places in _PLACES for place in places)
    runs = groupby(signs, lambda sign: unicodedata.category(sign).startswith("M"))
    found = [list(run) for marks, run in runs if marks]
    return "".join(f"{run[0]}-{run[-1]}" for run in found) + "\u200d"


_MARKS = _marks()


def word_pattern(joins: str = "", without: str = "") -> str:
    """A word as a regular expression: a run of letters, digits and underscores with their marks, or
    one Chinese character or Japanese kana. In ASCII it is `\\w+`.

    Args:
        joins: signs that may stand within a word, as in a class of characters.
        without: what of `\\w` is no letter of a word, such as "_".
    """
    letter = rf"[^\W{without}{_ALONE}]"
    run = rf"{letter}+(?:[{_MARKS}]{letter}*)*"
    more = f"(?:[{joins}]{run})*" if joins else ""
    return f"(?:{run}{more}|[{_ALONE}][{_MARKS}]*)"


def folded(text: str) -> str:
    """A text as words of it are compared: without case, letters composed with their marks.

    Args:
        text: any.
    """
    return unicodedata.normalize("NFC", text).casefold()


_WORD = re.compile(word_pattern("'\u2019\\-", "_"))


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


__all__ = ["count_words", "folded", "word_pattern", "words_of"]
