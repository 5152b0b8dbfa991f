"""The text is the tokenizer's decode of its tokens, and what is streamed is that text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

import lengthwise
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.errors import LengthwiseError
from lengthwise.testing.tiny import tiny_model
from lengthwise.tokenization.detokenise import Incremental, TextStream, whole_characters
from tests.tiny_tokenizers import WORDS, byte_fallback, byte_level, word_piece

KINDS = {"byte fallback": byte_fallback, "byte level": byte_level, "word pieces": word_piece}


def decoded(kind: str, ids: list[int]) -> str:
    return str(KINDS[kind]().decode(ids, skip_special_tokens=True))


def streamed(kind: str, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], str]:
    pieces: list[str] = []
    text = TextStream(KINDS[kind](), stop, pieces.append)
    for token in ids:
        text.add([token], RequestMetrics())
    return pieces, text.finish()


def byte(value: int) -> int:
    return 3 + value


def word(text: str) -> int:
    return 3 + 256 + WORDS.index(text)


def test_a_newline_and_half_a_character_before_a_word() -> None:
    """Bytes that are no text spoil those before them: the newline was one only as long as no more
    bytes followed."""
    ids = [word("▁hello"), byte(10), byte(0xE6), byte(0x97), word("▁world")]
    whole = decoded("byte fallback", ids)
    pieces, text = streamed("byte fallback", ids)
    assert "".join(pieces) == text == whole == "hello��� world"
    pieces, text = streamed("byte fallback", [*ids[:2], word("▁world")])
    assert "".join(pieces) == text == "hello\n world"


def test_a_batch_survives_such_a_row() -> None:
    with lengthwise.wrap(tiny_model("llama", vocab_size=512), byte_fallback()) as model:
        # A model that says what it is told: the bytes one after the other.
        ids = [byte(10), byte(0xE6), word("▁world"), word("lo")]
        for prompts in ([ids, [5, 6]], [[5, 6], ids]):
            found = model.generate_batch(prompts, max_new_tokens=24, stop_ids=[], temperature=1.5)
            assert [g.text for g in found] == [decoded("byte fallback", g.token_ids) for g in found]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_pieces_joined_are_decode_of_the_ids(kind: str, data: st.DataObject) -> None:
    size = len(KINDS[kind]())
    # Runs of bytes, words and special tokens, longer than a window.
    near = st.one_of(st.integers(0, size - 1), st.integers(max(0, size - 12), size - 1))
    ids = data.draw(st.lists(near, max_size=60))
    whole = decoded(kind, ids)
    pieces, text = streamed(kind, ids)
    assert "".join(pieces) == text == whole


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_real_text_streams_as_it_is(text: str) -> None:
    ids = byte_level().encode(text, add_special_tokens=False)
    pieces, found = streamed("byte level", ids)
    assert "".join(pieces) == found == decoded("byte level", ids)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_stop_string_ends_the_text_where_it_first_stands(kind: str, data: st.DataObject) -> None:
    size = len(KINDS[kind]())
    ids = data.draw(st.lists(st.integers(max(0, size - 40), size - 1), min_size=1, max_size=40))
    whole = decoded(kind, ids)
    stop = data.draw(st.sampled_from([whole[n : n + 2] for n in range(len(whole))] or ["x"]))
    pieces, text = streamed(kind, ids, (stop,))
    assert "".join(pieces) == text and stop not in text


def test_a_stop_string_may_end_in_a_character_that_comes_in_pieces() -> None:
    ids = byte_level().encode("a\u65c0b", add_special_tokens=False)
    assert len(ids) > 3
    assert streamed("byte level", ids, ("a\u65c0",)) == ([], "")


def test_tokens_are_streamed_soon_and_not_at_the_end() -> None:
    ids = [word("▁hello"), word("▁world")] * 40
    pieces, text = streamed("byte fallback", ids)
    assert len(pieces) == 80 and "".join(pieces) == text


def test_the_window_moves_along() -> None:
    decoder = Incremental(byte_level())
    lengths: list[int] = []
    kept = decoder._decode
    decoder._decode = lambda a, b: lengths.append(b - a) or kept(a, b)  # type: ignore[func-returns-value, method-assign]
    for _ in range(400):
        decoder.add(40)
    assert max(lengths) < 64 and decoder.text == decoded("byte level", [40] * 400)


@pytest.mark.parametrize(
    ("kind", "skipped", "said"),
    [
        ("byte level", KINDS["byte level"]().eos_token_id, [40]),
        ("byte level", 9_999, [40]),
        # Bytes of a character stay together across what is skipped.
        ("byte fallback", 1, [word("▁hello"), word("▁"), byte(0xC3), byte(0xA9)]),
        ("byte fallback", 9_999, [word("▁"), word("▁hello"), byte(0xC3)]),
    ],
)
def test_the_window_moves_along_what_is_skipped(kind: str, skipped: int, said: list[int]) -> None:
    decoder = Incremental(KINDS[kind]())
    lengths: list[int] = []
    kept = decoder._decode
    decoder._decode = lambda a, b: lengths.append(b - a) or kept(a, b)  # type: ignore[func-returns-value, method-assign]
    ids: list[int] = []
    for token in [skipped] * 200 + said * 10 + [skipped] * 300 + said + [skipped, *said] * 20:
        ids.append(token)
        decoder.add(token)
        assert decoder.text == decoded(kind, ids)
        assert decoder.text.startswith(decoder.text[: decoder.stable])
    assert decoder.ids == ids and max(lengths) < 100


def test_a_model_without_a_tokenizer_refuses_stop_strings_and_streams() -> None:
    with lengthwise.wrap(tiny_model("llama")) as model:
        for asked in ({"stop": ["x"]}, {"stream": print}):
            with pytest.raises(LengthwiseError, match="need a tokenizer"):
                model.generate([5, 6], **asked)
        assert model.generate([5, 6], max_new_tokens=2).text == ""


@pytest.mark.parametrize("kind", ["byte fallback", "byte level"])
@pytest.mark.parametrize("text", ["a\u65c0", "\u00e9", "\U0001f600"])
def test_a_text_ends_in_a_whole_character(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]()
    ids = (
        [byte(value) for value in text.encode()] if kind == "byte fallback"
        else byte_level().encode(text, add_special_tokens=False)
    )  # fmt: skip
    assert whole_characters(tokenizer, ids, decoded(kind, ids)) == decoded(kind, ids)
    for cut in range(1, len(ids)):
        assert "\ufffd" not in whole_characters(tokenizer, ids[:cut], decoded(kind, ids[:cut]))


@pytest.mark.parametrize("kind", ["byte fallback", "byte level"])
def test_the_character_that_stands_for_no_text_may_be_said(kind: str) -> None:
    tokenizer = KINDS[kind]()
    ids = tokenizer.encode("a \ufffd", add_special_tokens=False)
    assert decoded(kind, ids).endswith("\ufffd")
    assert whole_characters(tokenizer, ids, decoded(kind, ids)) == decoded(kind, ids)
    assert whole_characters(None, ids, "\ufffd") == "\ufffd"
