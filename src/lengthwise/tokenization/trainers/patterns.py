"""Where texts are cut before tokens are made of them, as regular expressions of the library.

A pattern tells pieces; what lies between two of them is a piece too ("isolated"). No token reaches
over the end of a piece.
"""

from __future__ import annotations

from tokenizers import Regex, decoders, pre_tokenizers
from tokenizers.decoders import Decoder
from tokenizers.pre_tokenizers import PreTokenizer

from lengthwise.errors import TokenizerError

# The letters of a word, capitals first: before the small ones, and what has no case among both.
_CAPITALS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_SMALL = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"

WORDS = "|".join(
    [
        rf"{_BEFORE}{_CAPITALS}*{_SMALL}+",
        rf"{_BEFORE}{_CAPITALS}+{_SMALL}*",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
"""Words with one sign or space before them, digits by threes, symbols, lines, spaces: as GPT-4o's
pattern, without its English contractions (the first stage of SuperBPE)."""
SUPERWORDS = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)"
"""Digits by threes, two symbols or more, and spaces that a word does not follow stand alone;
all else is one piece, spaces included (the second stage of SuperBPE)."""


def split_by(pattern: str) -> PreTokenizer:
    """Pieces by a pattern, as they stand in the text.

    Args:
        pattern: a regular expression.

    Raises:
        TokenizerError: it is none.
    """
    try:
        return pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    except Exception as error:  # The library has no class of its own for this.
        raise TokenizerError(
            f"{pattern!r} is no regular expression of the library ({error}): mend it, or leave it "
            "out for the usual pattern"
        ) from None


def cut_by(pattern: str) -> PreTokenizer:
    """Pieces by a pattern, as the letters of their bytes.

    Args:
        pattern: a regular expression; "" leaves a text whole.
    """
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if not pattern:
        return letters
    return pre_tokenizers.Sequence([split_by(pattern), letters])


def of_bytes() -> Decoder:
    """The decoder that belongs to `cut_by`: from letters back to bytes."""
    return decoders.ByteLevel()


__all__ = ["SUPERWORDS", "WORDS", "cut_by", "of_bytes", "split_by"]
