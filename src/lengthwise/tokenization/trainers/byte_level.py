"""Text as bytes, and where it is cut before tokens are learned: what all kinds begin with.

A text is cut into words, spaces, numbers and signs by the pattern of `patterns.py`. Each byte of a
piece is then written as one letter, as GPT-2 does, so that 256 letters spell any text and decoding
is exact.

    digits=l2r     1234567 -> 123|456|7     groups of three from the left (GPT-4, Llama 3)
    digits=r2l     1234567 -> 1|234|567     from the right, as numbers are read (Claude 3)
    digits=single  1234567 -> 1|2|3|4|5|6|7 (Llama 2, Gemma)
    digits=none    a number is one piece, cut by what is learned

Right to left is a pattern that looks ahead: three digits or fewer behind which there stand groups
of three up to the end. It looks 170 groups ahead, so that time grows with the length of a number
and not with its square; the groups of a longer number are counted from the left up to there.
"""

from __future__ import annotations

from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lengthwise._utils.options import option
from lengthwise.tokenization.trainers.patterns import WORDS

L2R, R2L, SINGLE, NONE = "l2r", "r2l", "single", "none"
DIGITS = (L2R, R2L, SINGLE, NONE)
_AHEAD = 170
# Under a law of single tokens, how much less likely a byte is that the corpus does not have than
# the rarest token, in nats.
UNSEEN = 10.0
_NUMBERS = {
    L2R: r"\p{N}{1,3}",
    R2L: rf"\p{{N}}{{1,3}}(?=(?:\p{{N}}{{3}}){{0,{_AHEAD}}}(?!\p{{N}}))|\p{{N}}{{3}}",
    SINGLE: r"\p{N}",
    NONE: r"\p{N}+",
}  # fmt: skip
_LETTERS = bytes_to_unicode()
ALPHABET: tuple[str, ...] = tuple(_LETTERS[byte] for byte in range(256))
"""The letter of each byte."""

NORMALIZERS = {
    "none": None,
    "nfc": normalizers.NFC,
    "nfkc": normalizers.NFKC,
    "lowercase": normalizers.Lowercase,
}
"""What may be done to a text before it is cut, by name; all but `none` lose something."""


def digits_option() -> str:
    """The option `digits` of a kind."""
    found: str = option(L2R, "how numbers are cut", choices=DIGITS)
    return found


def pattern(digits: str = L2R) -> str:
    """Where a text is cut, as a regular expression whose matches are the pieces.

    Args:
        digits: one of `DIGITS`.
    """
    return WORDS.replace(_NUMBERS[L2R], _NUMBERS[digits])


def cutter(digits: str = L2R) -> pre_tokenizers.PreTokenizer:
    """What cuts a text into pieces, which stay as they are.

    Args:
        digits: one of `DIGITS`.
    """
    return pre_tokenizers.Split(Regex(pattern(digits)), "isolated")


def byte_letters() -> pre_tokenizers.PreTokenizer:
    """What writes the bytes of a piece as letters."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def byte_level(model: models.Model, digits: str = L2R) -> Tokenizer:
    """A tokenizer of byte letters.

    Args:
        model: what makes tokens of a piece.
        digits: one of `DIGITS`.
    """
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cutter(digits), byte_letters()])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def spelled(text: str) -> str:
    """A text in byte letters.

    Args:
        text: any that is Unicode.
    """
    return "".join(map(ALPHABET.__getitem__, text.encode()))


@cache
def _bytes_of() -> dict[str, int]:
    return {letter: byte for byte, letter in _LETTERS.items()}


def unspelled(letters: str) -> bytes:
    """The bytes that letters stand for.

    Args:
        letters: of `ALPHABET`.
    """
    known = _bytes_of()
    return bytes(known[each] for each in letters)


__all__ = [
    "ALPHABET", "DIGITS", "L2R", "NONE", "NORMALIZERS", "R2L", "SINGLE", "UNSEEN", "byte_letters",
    "byte_level", "cutter", "digits_option", "pattern", "spelled", "unspelled",
]  # fmt: skip
