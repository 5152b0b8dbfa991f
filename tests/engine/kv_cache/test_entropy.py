"""Symbols come back from their bits, whatever they are; bits that are none are refused."""

from __future__ import annotations

import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.engine.kv_cache.entropy import decode, encode
from lengthwise.engine.kv_cache.packing import Damaged
from lengthwise.errors import LengthwiseError


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_symbols_come_back(data: st.DataObject) -> None:
    alphabet = data.draw(st.integers(2, 256))
    spread = data.draw(st.sampled_from([1, 8]))
    rows, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))
    most = data.draw(st.integers(0, alphabet - 1))
    seed = data.draw(st.integers(0, 2**32 - 1))
    symbols = np.random.default_rng(seed).integers(0, most + 1, (rows, n)).astype(np.uint8)
    coded = encode(symbols, alphabet, spread)
    assert np.array_equal(decode(coded, rows, n, alphabet, spread), symbols)


@pytest.mark.parametrize("width", [1.5, 3.0, 40.0])
def test_the_rate_is_near_the_entropy(width: float) -> None:
    drawn = np.random.default_rng(0).normal(128, width, (40, 2000))
    symbols = np.clip(np.rint(drawn), 0, 255).astype(np.uint8)
    bits = 8 * len(encode(symbols, 256, 8 if width > 10 else 1)) / symbols.size
    shares = np.bincount(symbols.ravel(), minlength=256) / symbols.size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    # The table, and an eighth of a bit for weights in half bits and for eight that share one.
    assert entropy - 0.05 < bits < entropy + 0.2


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=3000))
def test_bits_that_are_none_are_refused_or_symbols(data: bytes) -> None:
    try:
        found = decode(data, 3, 20, 32)
    except Damaged:
        return
    assert found.shape == (3, 20) and found.max() < 32


def test_a_stream_that_is_cut_is_refused() -> None:
    coded = encode(np.ones((2, 9), np.uint8), 16)
    for cut in (0, 3, len(coded) - 1):
        with pytest.raises(Damaged, match="cut"):
            decode(coded[:cut], 2, 9, 16)

    def headed(columns: bytes) -> bytes:
        head = zlib.compress(columns)
        return struct.pack("<I", len(head)) + head

    with pytest.raises(Damaged, match="cut"):
        decode(headed(bytes(40)), 2, 9, 16)
    with pytest.raises(Damaged, match="no such distribution"):
        decode(headed(b"\xff" * 16 * 49), 2, 9, 16)
    # Columns without a weight are no distribution, and what is no head is none either.
    for bad in (headed(bytes(16 * 49)), struct.pack("<I", 8) + bytes(16)):
        with pytest.raises(Damaged, match="is none"):
            decode(bad, 2, 9, 16)


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(LengthwiseError, match=r"pip install 'lengthwise\[cachegen\]'"):
        encode(np.ones((2, 9), np.uint8), 16)
