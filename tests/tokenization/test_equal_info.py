"""Equal-Info Windows: the paper's small text, every byte comes back, windows need no other."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.architectures.position_schemes import PositionSchemes, PositionSchemesConfig
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.byte_laws import (
    PRECISION,
    ByteNGram,
    FixedLaw,
    ModelLaw,
    frequency,
    least,
)
from lengthwise.tokenization.equal_info import Coded, EqualInfo

# Shares of 1/2, 1/4, 1/8 and 1/8.
LETTERS = FixedLaw({ord("a"): 4, ord("b"): 2, ord("c"): 1, ord("d"): 1})
TEXT = b"aabacdabaaadcbaa"
PROSE = (Path(__file__).read_bytes() + b"\n") * 3
NGRAM = ByteNGram.learn(PROSE)


def model_law() -> ModelLaw:
    torch.manual_seed(0)
    return ModelLaw(PositionSchemes(PositionSchemesConfig(
        scheme="rotary", vocab_size=257, hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=1, initializer_range=0.3,
    )))  # fmt: skip


# Laws.


def test_frequencies_of_a_law_are_whole_and_sum_to_one() -> None:
    for law in (NGRAM, model_law()):
        for before in (b"", b"t", b"th", b"the", b"\x00\xff"):
            sums = law.cumulated(before)
            assert len(sums) == 257 and sums[0] == 0 and sums[-1] == 1 << PRECISION
            assert least(sums) >= 1 and all(isinstance(each, int) for each in sums)


def test_an_ngram_knows_what_follows_what() -> None:
    law = ByteNGram.learn(b"abcabcabcabd" * 50)
    assert frequency(law.cumulated(b"ab"), ord("c")) > 2 * frequency(law.cumulated(b"ab"), ord("d"))
    assert frequency(law.cumulated(b"ab"), ord("d")) > 100 * frequency(law.cumulated(b"ab"), 0)
    # Witten and Bell by hand: order 0 of 600 bytes of four kinds, above a uniform law.
    total, uniform = 1 << PRECISION, (1 << PRECISION) // 256
    wanted = 1 + (200 * total + 4 * uniform) * (total - 256) // (total * 604)
    assert frequency(law.cumulated(b""), ord("b")) == wanted


def test_a_law_is_saved_loaded_and_told_from_others(tmp_path: Path) -> None:
    path = tmp_path / "law.safetensors"
    NGRAM.save(path)
    again = ByteNGram.load(path)
    assert again.fingerprint == NGRAM.fingerprint and again.order == 2
    assert again.cumulated(b"th") == NGRAM.cumulated(b"th")
    assert ByteNGram.learn(PROSE, order=1).fingerprint != NGRAM.fingerprint
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TokenizerError, match="no law of bytes can be read"):
        ByteNGram.load(path)
    with pytest.raises(TokenizerError, match="no law of bytes can be read"):
        ByteNGram.load(tmp_path / "none")


def test_what_cannot_be_a_law_is_refused() -> None:
    with pytest.raises(TokenizerError, match="empty text"):
        ByteNGram.learn(b"")
    with pytest.raises(TokenizerError, match="order=7: give 0 to 6"):
        ByteNGram.learn(b"a", order=7)
    with pytest.raises(TokenizerError, match="two at least"):
        FixedLaw({97: 5})
    other = PositionSchemes(PositionSchemesConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=1
    ))  # fmt: skip
    with pytest.raises(TokenizerError, match="needs vocab_size=257"):
        ModelLaw(other)


# Windows.


def test_windows_of_the_small_text() -> None:
    coder = EqualInfo(LETTERS, 8, 256)
    found = list(coder.windows(TEXT))
    starts = np.cumsum([0, *(count for _, count in found)])
    assert [TEXT[a:b] for a, b in zip(starts, starts[1:], strict=False)] == [
        b"aabac", b"dabaa", b"adc", b"baa",
    ]  # fmt: skip
    assert coder.decode(coder.encode(TEXT)) == TEXT


def test_padding_is_no_symbol() -> None:
    """`adc` takes seven bits of eight. With a zero behind them its code would be that of `adca`."""
    coder = EqualInfo(LETTERS, 8, 256)
    codes = [code for code, _ in coder.windows(TEXT)]
    assert coder.decode_window([codes[2]]) == b"adc"
    (longer,) = {code for code, _ in coder.windows(b"adca")}
    assert longer != codes[2] and coder.decode_window([longer]) == b"adca"


def test_no_two_texts_of_a_window_have_one_code() -> None:
    coder = EqualInfo(LETTERS, 8, 256)
    said: dict[int, bytes] = {}
    for code in range(256):
        text = coder.decode_window([code])
        (first, count), *_ = coder.windows(text + b"d" * 9)
        if count == len(text):
            assert said.setdefault(first, text) == text


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([(16, 256), (16, 1 << 16), (24, 16), (40, 256)]))
def test_any_bytes_come_back(data: bytes, sizes: tuple[int, int]) -> None:
    coder = EqualInfo(NGRAM, *sizes)
    coded = coder.encode(data)
    assert coder.decode(coded) == data
    assert len(coded.tokens) % coder.tokens_per_window == 0


def test_a_megabyte_comes_back() -> None:
    noise = Random(0).randbytes(50_000)
    data = (PROSE * 90)[:950_000] + noise
    coder = EqualInfo(NGRAM)
    coded = coder.encode(data)
    assert coder.decode(coded) == data
    assert len(coded.tokens) * 2 < len(data) / 1.5


def test_windows_decode_each_by_itself() -> None:
    coder = EqualInfo(NGRAM, 16, 256)
    found = list(coder.windows(PROSE[:2000]))
    parts = [coder.decode_window(coder.split(code)) for code, _ in reversed(found[:-1])]
    starts = np.cumsum([0, *(count for _, count in found)])
    assert parts[::-1] == [
        PROSE[a:b] for a, b in zip(starts, starts[1:-1], strict=False)
    ]  # fmt: skip


def test_a_window_holds_as_many_bytes_as_fit() -> None:
    """Every window of `windows` is full: with one byte more it would have been two."""
    coder = EqualInfo(NGRAM, 32, 256)
    at = 0
    for _, count in list(coder.windows(PROSE[:1500]))[:-1]:
        both = list(coder.windows(PROSE[at : at + count + 1]))
        assert both[0][1] == count and len(both) == 2
        at += count


def test_tokens_are_pieces_of_the_code_the_highest_first() -> None:
    assert EqualInfo(NGRAM, 16, 256).split(0x12FE) == [0x12, 0xFE]
    assert EqualInfo(NGRAM, 16, 1 << 16).split(0x12FE) == [0x12FE]
    assert EqualInfo(NGRAM, 16, 16).split(0x12FE) == [1, 2, 15, 14]


def test_a_tiny_model_can_be_the_law() -> None:
    coder = EqualInfo(model_law())
    coded = coder.encode(PROSE[:300])
    assert coder.decode(coded) == PROSE[:300]
    # Another object of the same weights, which remembers nothing, decodes it.
    assert EqualInfo(model_law()).decode(coded) == PROSE[:300]


# What is wrong.


def changed(coded: Coded, **fields: Any) -> Coded:
    return Coded(**{**vars(coded), **fields})


def test_streams_that_cannot_be_decoded_are_refused(tmp_path: Path) -> None:
    coder = EqualInfo(NGRAM, 16, 256)
    coded = coder.encode(PROSE[:200])
    with pytest.raises(TokenizerError, match="another law of bytes"):
        EqualInfo(ByteNGram.learn(b"other")).decode(coded)
    with pytest.raises(TokenizerError, match="16 bits in tokens of 256 ids"):
        EqualInfo(NGRAM).decode(coded)
    with pytest.raises(TokenizerError, match="no whole number of windows"):
        coder.decode(changed(coded, tokens=coded.tokens[:-1]))
    with pytest.raises(TokenizerError, match="their text had 200: the stream was cut short"):
        coder.decode(changed(coded, tokens=coded.tokens[:-2]))
    with pytest.raises(TokenizerError, match="0 to 255"):
        coder.decode(changed(coded, tokens=coded.tokens + 256))
    path = tmp_path / "windows.safetensors"
    coded.save(path)
    assert coder.decode(Coded.load(path)) == PROSE[:200]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TokenizerError, match="no windows can be read"):
        Coded.load(path)
    NGRAM.save(path)
    with pytest.raises(TokenizerError, match="no windows can be read|holds no windows"):
        Coded.load(path)


@pytest.mark.parametrize(("bits", "vocabulary"), [(16, 100), (12, 256), (0, 2), (16, 1)])
def test_windows_are_whole_tokens(bits: int, vocabulary: int) -> None:
    with pytest.raises(TokenizerError, match=f"bits={bits}, vocabulary={vocabulary}"):
        EqualInfo(NGRAM, bits, vocabulary)


def test_a_byte_that_fits_no_window_is_refused() -> None:
    with pytest.raises(TokenizerError, match="too small for the rarest byte"):
        EqualInfo(NGRAM, 8, 256)
    with pytest.raises(TokenizerError, match="byte 0x65 at 2 has frequency 0"):
        EqualInfo(LETTERS, 8, 256).encode("abe")
    with pytest.raises(TokenizerError, match="half of a surrogate pair"):
        EqualInfo(NGRAM).encode("\ud800")
