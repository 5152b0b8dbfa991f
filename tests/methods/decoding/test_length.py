"""Texts of at least, and at most, so many words, sentences and tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

import lengthwise
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.decoding import length
from lengthwise.methods.decoding.length import Length, LengthLaw, complete_sentences
from lengthwise.testing import decoders
from lengthwise.testing.tiny import tiny_model, tokens
from lengthwise.tokenization.words import count_words
from tests.methods.decoding.law_models import written_model


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return written_model()


def law_of(model: lengthwise.Model, **options: int) -> LengthLaw:
    law = Length(**options).start_law(model.adapted)
    assert isinstance(law, LengthLaw)
    law.begin(None, None, 99, [256])  # type: ignore[arg-type]
    return law


def may(law: LengthLaw, text: str) -> set[str]:
    """The tokens that may follow a text, "END" among them."""
    found = law.process(torch.zeros(260), list(text.encode()))
    tokens = found.isfinite().nonzero()[:, 0].tolist()
    return {"END" if token == 256 else chr(token) for token in tokens if token <= 256}


def test_it_does_not_end_too_soon(model) -> None:
    for options in ({"min_words": 3}, {"min_new_tokens": 8}):
        law = law_of(model, **options)
        assert "END" not in may(law, "one two") and "END" in may(law, "one two x")


def test_no_word_begins_beyond_the_last(model) -> None:
    law = law_of(model, max_words=2)
    assert {"n", " ", "."} <= may(law, "one ")
    found = may(law, "one two")
    assert {"s", ".", "END", "-"} <= found and " " not in found and "\n" not in found
    assert "x" in may(law, "one two-")
    after = may(law, "one two,")
    assert "a" not in after and "END" in after and "." in after
    assert (
        law.ends(list(b"one two.")) and not law.ends(list(b"one.")) and not law.ends(list(b"a b"))
    )
    assert not law.ends(list(b'"one two.')) and law.ends(list(b'"one two."'))
    # Half of a character may be a letter.
    assert "é"[0] not in may(law, "one two ")


def test_sentences_end_with_what_they_opened(model) -> None:
    law = law_of(model, max_sentences=2)
    assert not law.ends(list(b"He came. She")) and law.ends(list(b"He came. She saw."))
    assert not law.ends(list(b'He came. "I saw.')) and may(law, 'He came. "I saw.') == {
        '"', "'", ")", "]", "END"
    }  # fmt: skip
    assert not law.ends(list(b"He came. It was 3."))


@pytest.mark.parametrize("text, count", [
    ("", 0), ("He", 0), ("He came.", 1), ("He came. She", 1), ("He came. She saw!", 2),
    ("It is 3.", 0), ("It is 3.5 long.", 1), ("Mr. Fox came.", 1), ("Why? ", 1),
])  # fmt: skip
def test_complete_sentences(text: str, count: int) -> None:
    assert complete_sentences(text) == count


@pytest.mark.parametrize("beside", ["full", "lookup"])
def test_texts_have_the_lengths_asked_for(model, beside: str) -> None:
    for seed in range(3):
        found = model.generate("Tell:", f"{beside} + length(min_words=4, max_words=6)", seed=seed,
                               temperature=1.0, max_new_tokens=150)  # fmt: skip
        assert count_words(found.text) <= 6
        assert count_words(found.text) >= 4 or found.metrics.notes
    short = model.generate("Tell:", "length(min_words=50)", max_new_tokens=5, stop_ids=[])
    assert any("min_words=50 were asked for" in note for note in short.metrics.notes)


def test_what_no_text_can_be_is_refused(model) -> None:
    with pytest.raises(RecipeError, match="no text has so many and so few"):
        model.plan("length(min_words=5, max_words=4)")
    bare = lengthwise.wrap(tiny_model("llama"))
    with pytest.raises(Refused, match="counts words"):
        bare.plan("length(max_words=4)")
    found = bare.generate(tokens(9), "length(min_new_tokens=6)", max_new_tokens=9,
                          stop_ids=list(range(1, 128)))  # fmt: skip
    assert found.token_ids == [0] * 6


@pytest.mark.parametrize("check", [decoders.check_law_by_path, decoders.check_decoder_batch])
def test_laws_of_decoders(model, check) -> None:
    check(Length, model.adapted)


PIECES = st.sampled_from(
    ["one", "two-", "'s", "-", "x1", "_", " ", "\n", ".", "日本", "हि", "e\u0301", "\u2019"]
)


@given(st.lists(PIECES, max_size=60))
def test_words_are_counted_in_blocks_as_they_are_at_once(pieces: list[str]) -> None:
    text = "".join(pieces)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(length, "_BLOCK", 5)
        assert length._words(text) == count_words(text)


def test_words_of_a_long_text_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    monkeypatch.setattr(
        length, "count_words", lambda text: (looked_at.append(len(text)), count_words(text))[1]
    )
    text = ""
    for number in range(3000):
        text += f"word{number} "
        if number % 300 == 299:
            assert length._words(text) == number + 1
    assert sum(looked_at) <= len(text) + 10 * 1100
    # Going back and on another way costs its end.
    looked_at.clear()
    assert length._words(text[:-9] + "another") == 3000 and sum(looked_at) <= 1200


def test_a_word_behind_the_end_of_a_line_is_another(model) -> None:
    law = law_of(model, max_words=1)
    assert "s" in may(law, "one") and "s" not in may(law, "one\n")
    # A mark goes on with its word, and a Chinese character is one of its own.
    assert "s" in may(law, "e\u0301") and "s" not in may(law, "日")
