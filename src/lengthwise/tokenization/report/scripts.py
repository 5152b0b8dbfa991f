"""The script of a character, by Unicode's own property."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache, lru_cache

import regex

SCRIPTS = (
    "Latin", "Han", "Cyrillic", "Arabic", "Devanagari", "Hiragana", "Katakana", "Hangul", "Greek",
    "Hebrew", "Thai", "Bengali", "Tamil", "Telugu", "Kannada", "Malayalam", "Gujarati", "Gurmukhi",
    "Oriya", "Sinhala", "Georgian", "Armenian", "Ethiopic", "Khmer", "Lao", "Myanmar", "Tibetan",
    "Mongolian", "Thaana", "Syriac", "Cherokee", "Canadian_Aboriginal", "Tifinagh", "Nko", "Vai",
    "Yi", "Javanese", "Balinese", "Adlam", "Bopomofo",
)  # fmt: skip
OTHER = "other scripts"
COMMON = "common"
_SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{sc={name}}})" for name in SCRIPTS))
_NONE = regex.compile(r"[\p{sc=Common}\p{sc=Inherited}]")


@lru_cache(maxsize=1 << 17)
def script_of(character: str) -> str:
    """The script of a character: one of SCRIPTS, OTHER, or COMMON for what all scripts share.

    Args:
        character: one.
    """
    found = _SCRIPT.match(character)
    if found is not None:
        return str(found.lastgroup)
    return COMMON if _NONE.match(character) else OTHER


def scripts_of(text: str) -> list[str]:
    """The scripts that letters of a text are in, without COMMON, in the order they come.

    Args:
        text: any.
    """
    return [name for name in dict.fromkeys(map(script_of, text)) if name != COMMON]


@cache
def letters_of_scripts() -> dict[str, int]:
    """How many letters and marks Unicode has in each script."""
    letters = (chr(code) for code in range(0x110000))
    return dict(
        Counter(script_of(each) for each in letters if unicodedata.category(each)[0] in "LM")
    )


__all__ = ["COMMON", "OTHER", "SCRIPTS", "letters_of_scripts", "script_of", "scripts_of"]
