"""The nearest spellings are those that difflib finds, and most are never compared."""

from __future__ import annotations

import difflib
import random

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.sequences import pairing
from lengthwise.sequences.pairing import NEAR, Spellings, match

WORDS = st.text(st.sampled_from("abé_中1"), min_size=1, max_size=14)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, unique=True, max_size=30), WORDS)
def test_nearest_spellings_are_difflibs(words: list[str], word: str) -> None:
    near = [word + "a", "b" + word, word[::-1], word[:-1] + "_"]
    words = list(dict.fromkeys([*words, *near]))
    assert Spellings(words).near(word) == difflib.get_close_matches(word, words, 5, NEAR)


def test_among_no_words_none_is_near() -> None:
    assert Spellings([]).near("a") == []


def test_few_of_many_spellings_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, compared = random.Random(0), 0
    real = difflib.get_close_matches

    def counting(word: str, words: list[str], *more: float) -> list[str]:
        nonlocal compared
        compared += len(words)
        return real(word, words, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(pairing.difflib, "get_close_matches", counting)
    code = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(400)]
    tests = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(100)]
    names = [f"p/{name}.py" for name in code] + [f"p/test_{name}.py" for name in tests]
    found = match([*names, f"p/test_{code[7]}s.py"])
    assert found == {7: len(names)}
    assert compared < 100 * 400 / 100
