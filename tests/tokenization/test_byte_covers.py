"""Exact laws of the next byte on the card's toy, against going through all sequences of tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lengthwise.errors import LengthwiseError
from tests.tokenization import toy_tokens as toy


def _read(text: bytes, **options: float) -> tuple[float, toy.ByteCovers]:
    covers, found = toy.covers(**options), 0.0
    for byte in text:
        found += covers.feed(byte)
        if not covers.covers:
            break
    return found, covers


def test_sums_over_bytes_are_the_text() -> None:
    for text in toy.texts(5):
        before = toy.brute(text)
        ends = toy.spelled([*toy.tokenize(text), toy.END])
        after = sum(toy.brute(text + bytes([byte])) for byte in b"AB") + ends
        assert after == pytest.approx(before, abs=1e-15)


def test_every_text_has_its_exact_probability() -> None:
    for text in toy.texts(7):
        found, _ = _read(text)
        assert math.exp(found) == pytest.approx(toy.brute(text), rel=1e-12, abs=1e-15)


def test_laws_are_one_and_exact() -> None:
    for text in toy.texts(6):
        whole = toy.brute(text)
        if whole <= 0:
            continue
        law = _read(text)[1].law()
        assert abs(law.leak) < 1e-12
        assert float(law.probs.sum()) + law.end == pytest.approx(1.0, abs=1e-12)
        for byte in b"AB":
            wanted = toy.brute(text + bytes([byte])) / whole
            assert law.probs[byte] == pytest.approx(wanted, abs=1e-12)


def test_within_a_token_the_tokens_of_the_prompt_mislead() -> None:
    naive = toy.row(toy.tokenize(b"BA")[-1])
    starting = [word.startswith(b"A") for word in toy.WORDS]
    assert naive[: toy.END][starting].sum() == 0.0
    assert _read(b"BA")[1].law().probs[ord("A")] == pytest.approx(toy.EXACT, abs=1e-12)


def test_a_law_is_asked_once_for_all_forks() -> None:
    covers = toy.covers()
    covers.feed(ord("A"))
    one, other = covers.fork(), covers.fork()
    first = one.law()
    asked = covers.laws.asked  # type: ignore[attr-defined]
    np.testing.assert_array_equal(first.probs, other.law().probs)
    assert covers.laws.asked == asked  # type: ignore[attr-defined]


def test_what_was_left_out_is_asked_when_it_counts() -> None:
    # "AB" begins by token A, of 0.25 beside 0.15 for AA: far below so large a tolerance.
    for text in toy.texts(6):
        found, _ = _read(text, tolerance=0.3)
        wanted = toy.brute(text)
        assert (found == -math.inf) == (wanted == 0)


def test_invalid_tokens_are_taken_out_of_a_model_that_leaks() -> None:
    for text in toy.texts(5):
        found, covers = _read(text, leak=0.05)
        if found == -math.inf:
            continue
        law = covers.law()
        assert abs(law.leak) < 1e-12
        assert float(law.probs.sum()) + law.end == pytest.approx(1.0, abs=1e-12)


def test_settled_where_all_covers_go_by_one_encoding() -> None:
    for text in toy.texts(6):
        if toy.brute(text) <= 0:
            continue
        settled = _read(text)[1].settled()
        if settled is None:
            continue
        head = text[: len(text) - settled.depth]
        assert toy.tokenize(head) == list(settled.encoding.path)
        begun, low_high = text[len(head) :], settled.span
        tokens = [int(t) for t in toy.ToySpelling.vocabulary.ids[slice(*low_high)]]
        assert sorted(tokens) == [t for t, w in enumerate(toy.WORDS) if w.startswith(begun)]
        through = sum(toy.spelled([*settled.encoding.path, token]) for token in tokens)
        end = 0.0 if settled.depth else toy.spelled([*settled.encoding.path, toy.END])
        assert through + end == pytest.approx(toy.brute(text), rel=1e-12)


def test_impossible_bytes_end_it() -> None:
    covers = toy.covers()
    assert covers.feed(ord("C")) == -math.inf
    with pytest.raises(LengthwiseError, match="no probability"):
        covers.law()
