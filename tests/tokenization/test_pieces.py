"""Pieces by compiled code are those of the library, whatever characters a text has."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.pieces import Cutter, joined
from lengthwise.tokenization.trainers.patterns import SUPERWORDS, WORDS

PATTERNS = {"words": WORDS, "superwords": SUPERWORDS}
# One of every class, spaces of all kinds, and marks that join to what is before them.
LETTERS = " \n\r\t aAbéÉǅʰ中\u03011٣½.,/-'\u00a0\u2028\u0085😀\x00\x1c\ufeff\u200b\u180e"


def _same(pattern: str, texts: list[str]) -> None:
    cutter = Cutter(pattern)
    data, bounds = joined([text.encode() for text in texts])
    ends, counts = cutter.ends(data, bounds)
    wanted, wanted_counts = cutter.ends_by_library(data, bounds)
    assert ends.tolist() == wanted.tolist(), texts
    assert counts.tolist() == wanted_counts.tolist()


@pytest.mark.parametrize("name", PATTERNS)
def test_pieces_are_the_librarys(name: str) -> None:
    random = Random(0)
    for _ in range(300):
        _same(PATTERNS[name], ["".join(random.choices(LETTERS, k=20)) for _ in range(4)])


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3))
def test_pieces_of_any_text_are_the_librarys(name: str, texts: list[str]) -> None:
    _same(PATTERNS[name], texts)


@pytest.mark.parametrize("name", PATTERNS)
def test_every_character_has_the_class_that_the_library_gives_it(name: str) -> None:
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    chosen = every[:0x3000] + every[0x3000::23]
    Random(1).shuffle(chosen)
    text = " ".join("".join(chosen[at : at + 5]) for at in range(0, len(chosen), 5))
    _same(PATTERNS[name], [text])


def test_any_other_pattern_is_cut_by_the_library() -> None:
    data, bounds = joined([b"one two", b"", b"three"])
    assert Cutter(" ?[a-z]+").ends(data, bounds)[0].tolist() == [3, 7, 12]
    ends, counts = Cutter("").ends(data, bounds)
    assert ends.tolist() == [7, 12] and counts.tolist() == [1, 1, 2]


@pytest.mark.parametrize("wrong", ["(", "[a-", "*", "\udcff"])
def test_what_is_no_pattern_is_told(wrong: str) -> None:
    with pytest.raises(TokenizerError, match="is no regular expression"):
        Cutter(wrong)
