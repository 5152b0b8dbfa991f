"""English words by the thousand, of the package wonderwords, as RULER takes them."""

from __future__ import annotations

import random
from functools import cache
from importlib.util import find_spec

from lengthwise.errors import LengthwiseError

NEEDS = "the package wonderwords: pip install 'lengthwise[evaluation]'"


def missing_words() -> str:
    """What is missing where there are no words; "" where there are."""
    return "" if find_spec("wonderwords") else NEEDS


@cache
def words_of(part: str) -> tuple[str, ...]:
    """Words of letters alone, sorted.

    Args:
        part: "noun", "adjective" or "verb".

    Raises:
        LengthwiseError: where the package is not installed.
    """
    try:
        from wonderwords import RandomWord
    except ImportError:
        raise LengthwiseError(f"words need {NEEDS}") from None
    found = RandomWord().filter(include_parts_of_speech=[part])
    return tuple(sorted({each for each in found if each.isalpha() and each.islower()}))


@cache
def vocabulary() -> tuple[str, ...]:
    """All words, sorted."""
    return tuple(sorted({*words_of("noun"), *words_of("adjective"), *words_of("verb")}))


def named(draw: random.Random) -> str:
    """An adjective and a noun, drawn, as "warm-harbor"."""
    return f"{draw.choice(words_of('adjective'))}-{draw.choice(words_of('noun'))}"


__all__ = ["NEEDS", "missing_words", "named", "vocabulary", "words_of"]
