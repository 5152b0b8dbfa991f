"""Entropy coding of small symbols, with a distribution for every row.

    count c of a symbol among the n of its row  ->  level l = 1 + round(2 log2(n / c)), 0 for c = 0
    level l                                     ->  weight  2 ** (-(l - 1) / 2), 0 for l = 0

The levels of all rows are the table. It is coded itself, column by column, by how often each level
comes in the column. So a row of 32 symbols costs a few bytes, and half a bit of precision in its
logarithms costs less than 0.01 bits a symbol.

The coder is `constriction`'s for asymmetric numeral systems. It reaches the rate of the arithmetic
coder of the paper, and decodes faster. It works as a stack: what is decoded first is encoded last.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise.engine.kv_cache.packing import Damaged
from lengthwise.errors import LengthwiseError

Symbols = NDArray[np.uint8]
MOST = 1 << 16
"""Most symbols of a row."""

# Levels of up to MOST symbols, and of as many rows as planes of a large model have.
_TOP = 48
_ROWS = 256


def _weights() -> NDArray[np.float32]:
    # Square roots and halves are exact everywhere; an exponential may differ in its last bit.
    root = np.sqrt(np.float32(0.5))
    halves = [np.float32(0.5) ** (k // 2) * (root if k % 2 else np.float32(1)) for k in range(_TOP)]
    return np.array([0, *halves], np.float32)


_WEIGHTS = _weights()


def require_coder() -> Any:
    """The library that codes.

    Raises:
        LengthwiseError: where it is not installed.
    """
    try:
        import constriction
    except ModuleNotFoundError:
        raise LengthwiseError(
            "cachegen needs the package constriction: pip install 'lengthwise[cachegen]'"
        ) from None
    return constriction.stream


def encode(symbols: Symbols, alphabet: int, spread: int = 1) -> bytes:
    """Symbols as bytes; `decode` gives them back.

    Args:
        symbols: uint8 `[rows, n]`, all below `alphabet`; n from 1 to `MOST`.
        alphabet: how many symbols there are, from 2 to 256.
        spread: neighbouring symbols that share a weight, for tables that few symbols fill.
    """
    stream = require_coder()
    coder = stream.stack.AnsCoder()
    size = -(-alphabet // spread)
    levels = np.concatenate(list(_row_levels(symbols, size, spread)))
    model = stream.model.Categorical
    for row in range(len(symbols) - 1, -1, -1):
        weights = _spread(levels[row], alphabet, spread)
        coder.encode_reverse(symbols[row].astype(np.int32), model(weights, perfect=False))
    columns = _levels(np.stack([np.bincount(c, minlength=_TOP + 1) for c in levels.T]), len(levels))
    for column in range(size - 1, -1, -1):
        weights = _WEIGHTS[columns[column]]
        coder.encode_reverse(levels[:, column].astype(np.int32), model(weights, perfect=False))
    # Most columns of a large alphabet are empty.
    head = zlib.compress(columns.tobytes(), 9)
    words: bytes = coder.get_compressed().astype("<u4").tobytes()
    return struct.pack("<I", len(head)) + head + words


def decode(data: bytes, rows: int, n: int, alphabet: int, spread: int = 1) -> Symbols:
    """The symbols that were encoded.

    Args:
        data: what `encode` gave.
        rows: how many rows; the caller answers for their number, as for n.
        n: symbols of a row.
        alphabet: as in `encode`.
        spread: as in `encode`.

    Returns:
        uint8 `[rows, n]`.

    Raises:
        Damaged: for bytes that nothing was encoded into.
    """
    stream = require_coder()
    size = -(-alphabet // spread)
    columns, rest = _head(data, size)
    try:
        words = np.frombuffer(rest, "<u4").astype(np.uint32)
        coder, model = stream.stack.AnsCoder(words), stream.model.Categorical
        levels = np.empty((rows, size), np.uint8)
        for column in range(size):
            levels[:, column] = coder.decode(model(_WEIGHTS[columns[column]], perfect=False), rows)
        found = np.empty((rows, n), np.uint8)
        for row in range(rows):
            weights = _spread(levels[row], alphabet, spread)
            found[row] = coder.decode(model(weights, perfect=False), n)
    except ValueError as error:
        raise Damaged(f"a coded stream is none: {error}") from None
    if not coder.is_empty():
        raise Damaged("a coded stream holds other symbols than it should")
    return found


def _head(data: bytes, size: int) -> tuple[Symbols, bytes]:
    """How often each level comes in each column of the table, and the bits behind that."""
    if len(data) < 4:
        raise Damaged("a coded stream is cut")
    (length,) = struct.unpack_from("<I", data)
    wanted = size * (_TOP + 1)
    try:
        found = zlib.decompressobj().decompress(data[4 : 4 + length], wanted)
    except zlib.error as error:
        raise Damaged(f"a coded stream is none: {error}") from None
    rest = data[4 + length :]
    if len(found) != wanted or len(rest) % 4:
        raise Damaged("a coded stream is cut")
    columns = np.frombuffer(found, np.uint8).reshape(size, _TOP + 1)
    if columns.max() > _TOP:
        raise Damaged("a coded stream has no such distribution")
    return columns, rest


def _row_levels(symbols: Symbols, size: int, spread: int) -> Iterator[Symbols]:
    # Some rows at a time: the sums want eight bytes a symbol.
    for start in range(0, len(symbols), _ROWS):
        block = symbols[start : start + _ROWS].astype(np.int64) // spread
        block += np.arange(len(block))[:, None] * size
        counts = np.bincount(block.ravel(), minlength=len(block) * size)
        yield _levels(counts.reshape(len(block), size), symbols.shape[1])


def _levels(counts: NDArray[np.int64], total: int) -> Symbols:
    """Levels uint8 of the counts of symbols, any shape."""
    bits = np.log2(total / np.maximum(counts, 1))
    levels = np.minimum(1 + np.rint(2 * bits), _TOP).astype(np.uint8)
    return np.where(counts == 0, np.uint8(0), levels)


def _spread(levels: Symbols, alphabet: int, spread: int) -> NDArray[np.float32]:
    weights = _WEIGHTS[levels]
    return weights if spread == 1 else np.repeat(weights, spread)[:alphabet]


__all__ = ["MOST", "Symbols", "decode", "encode", "require_coder"]
