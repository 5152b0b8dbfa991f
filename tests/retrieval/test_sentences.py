"""Sentences: where texts are cut, and that nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.documents.files import read_document
from lengthwise.retrieval.sentences import sentences


def test_abbreviations_do_not_end_a_sentence() -> None:
    assert sentences("Dr. Ames came, e.g. by ship. It left!") == [
        "Dr. Ames came, e.g. by ship. ", "It left!",
    ]  # fmt: skip
    assert sentences("Das ist z. B. gut. Ja.", "de") == ["Das ist z. B. gut. ", "Ja."]


def test_other_scripts_are_cut_at_their_own_signs() -> None:
    assert sentences("你好。世界！再见", "zh") == ["你好。", "世界！", "再见"]
    assert sentences("مرحبا. كيف؟ نعم", "ar") == ["مرحبا. ", "كيف؟ ", "نعم"]


def test_text_without_an_end_is_one_sentence() -> None:
    code = "def f(x):\n    return x.y  # z\n"
    assert sentences(code) == [code]
    assert sentences("") == []


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nb.\r\nC d.\r\n\r\nE.",
        "\ufeffHi. 👩‍👩‍👧 yes! Ja.",
        "e\u0301 acute.\u2029Next. \x00 Z",
        "Dr.\u00a0J.\u00a0Ames. \u3000J. Bo.",  # spaces of several bytes before an initial
        "]\u00a0B\u00a0.] x. J.\u00a0Z.",
        # The library leaves out the ends of lines here.
        "binary operations.\n\nFor targets which are attribute references, it applies.\n\n   x\n\n",
        "* A list.\n\n* Another.\n\n  Text of it.\n\n1. One\n\n   def f():\n\n2. Two\n",
        "half of a pair \ud83d. Next.",
    ],
)
def test_joined_they_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


def test_a_whole_book_is_cut_and_joined() -> None:
    text = read_document().text[:100_000]
    found = sentences(text)
    assert "".join(found) == text and len(found) > 500
    assert max(map(len, found)) < 5_000


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("aB.!? \n\r\té😀。\"()'\u200d\u00a0\u2029\u3000\ud83d1“”[]J")))
def test_joined_they_are_any_text(text: str) -> None:
    assert "".join(sentences(text)) == text
