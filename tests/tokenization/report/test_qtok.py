"""Qtok's classes on a hand-made vocabulary, a token a class, and on the embedded model's."""

from __future__ import annotations

import numpy as np
import pytest

from lengthwise.tokenization.opened import Ids, OpenTokenizer
from lengthwise.tokenization.opening import open_tokenizer
from lengthwise.tokenization.report.qtok import measure_vocabulary, shared_tokens, view_of
from lengthwise.tokenization.report.scripts import letters_of_scripts, script_of

WORDS: dict[bytes | None, tuple[str, str, str]] = {
    None: ("special", "", ""), b"\xe6\x97": ("undecodable", "", ""), b"  ": ("whitespace", "", ""),
    b"123": ("digits", "", ""), b"->": ("symbols", "", ""),
    " Über".encode(): ("letters", "Latin", "capitalised"),
    "привет".encode(): ("letters", "Cyrillic", "lower"), "日本".encode(): ("letters", "Han", ""),
    b" x2": ("mixed", "Latin", "lower"), "aб".encode(): ("mixed", "several", "lower"),
}  # fmt: skip


class Toy(OpenTokenizer):
    """A vocabulary alone."""

    def __init__(self) -> None:
        super().__init__("toy", "toy", list(WORDS), {0}, 0)

    def encode(self, texts: object) -> list[Ids]:
        return []

    def decode(self, ids: object) -> str:
        return ""


@pytest.mark.parametrize("word", list(WORDS))
def test_a_token_of_each_class(word: bytes | None) -> None:
    view = view_of(word)
    assert (view.kind, view.script, view.case) == WORDS[word]
    assert view.word_start == (word in (b" x2", " Über".encode()))


def test_shares_of_the_vocabulary_and_of_use() -> None:
    counts = np.zeros(len(WORDS), dtype=np.int64)
    counts[[3, 6]] = 1, 3
    found = measure_vocabulary(Toy(), counts)
    assert {name: share.tokens for name, share in found.classes.items()} == {
        "letters": 3, "mixed": 2, "special": 1, "undecodable": 1, "whitespace": 1, "digits": 1,
        "symbols": 1,
    }  # fmt: skip
    assert found.classes["letters"].used == 0.75 and found.classes["digits"].used == 0.25
    assert found.scripts["Cyrillic"].vocabulary == 0.1
    assert found.latin["beyond ascii"].tokens == 1
    assert shared_tokens([Toy(), Toy()]) == len(WORDS) - 1


def test_shares_of_the_embedded_vocabulary_sum_to_one() -> None:
    tokenizer = open_tokenizer()
    found = measure_vocabulary(tokenizer, np.ones(tokenizer.size, dtype=np.int64))
    assert sum(each.vocabulary for each in found.classes.values()) == pytest.approx(1)
    undecodable = 0
    for each in tokenizer.spelled:
        try:
            (each or b"").decode()
        except UnicodeDecodeError:
            undecodable += 1
    assert found.classes["undecodable"].tokens == undecodable > 0
    assert found.coverage["Latin"].own >= 52


def test_scripts_are_unicodes() -> None:
    assert [script_of(each) for each in "aяあ漢한ع1 ᚠ"] == [
        "Latin", "Cyrillic", "Hiragana", "Han", "Hangul", "Arabic", "common", "common",
        "other scripts",
    ]  # fmt: skip
    assert letters_of_scripts()["Han"] > 90_000
