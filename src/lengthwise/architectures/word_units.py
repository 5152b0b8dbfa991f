"""Words as rows of bytes, each with a unit that says how it ends: what word-pooled models read.

    0..255  bytes      256 SPACE  a space follows      257 ON  the next word follows at once
    258 STOP  the text ends                            -1 FILLING  behind the end

A text is cut at its spaces and behind each new line. A word of more bytes than allowed is cut in
several, which end with ON. So every text, of any bytes, has one row of words and comes back whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise._utils.utf8 import utf8

SPACE, ON, STOP, FILLING = 256, 257, 258, -1
UNITS = 259


@dataclass(frozen=True)
class Words:
    """The words of a text.

    units: int64 `[words, longest + 1]`. cut: how many words were longer than allowed, and are
    several here. size: bytes of the text.
    """

    units: Tensor
    cut: int
    size: int


def units_of(text: str | bytes, longest: int, stops: bool = True) -> Words:
    """The words of a text.

    Args:
        text: a str is read as UTF-8; bytes may be anything.
        longest: bytes that a word may have.
        stops: whether the text ends here. Where it does not, its last space ends its last word.

    Raises:
        TokenizerError: for half a surrogate pair, which has no UTF-8.
        ValueError: for a text that goes on and does not end with a space.
    """
    data = text if isinstance(text, bytes) else utf8(text)
    if not stops and not data.endswith(b" "):
        raise ValueError("a text that goes on ends with a space: its last word is not whole")
    words = data.split(b" ")
    if not stops:
        words.pop()
    pieces: list[tuple[bytes, int]] = []
    cut = 0
    for number, word in enumerate(words):
        last = STOP if stops and number == len(words) - 1 else SPACE
        lines = word.split(b"\n")
        runs = [line + b"\n" for line in lines[:-1]] + [lines[-1]]
        for place, run in enumerate(runs):
            parts = [run[at : at + longest] for at in range(0, len(run), longest)] or [b""]
            cut += len(parts) > 1
            ends = [ON] * (len(parts) - 1) + [last if place == len(runs) - 1 else ON]
            pieces += zip(parts, ends, strict=True)
    return Words(_rows(pieces, longest), cut, len(data))


def bytes_of(units: Iterable[Iterable[int]]) -> bytes:
    """The text of words.

    Args:
        units: of each word, as a row of `Words.units`.
    """
    found = bytearray()
    for word in units:
        for unit in word:
            if 0 <= unit < SPACE:
                found.append(unit)
            elif unit == SPACE:
                found += b" "
    return bytes(found)


def lengths_of(units: Tensor) -> Tensor:
    """How many units each word has, its end included: int64 `[..., words]`.

    Args:
        units: int64 `[..., words, n]`.
    """
    return (units != FILLING).sum(-1)


def sizes_of(units: Tensor) -> Tensor:
    """How many bytes each word stands for, its space included: int64 `[..., words]`.

    Args:
        units: int64 `[..., words, n]`.
    """
    return ((units >= 0) & (units <= SPACE)).sum(-1)


def joined(rows: Seq[Tensor]) -> Tensor:
    """Rows of words as one batch, filled up behind their ends: int64 `[rows, words, n]`.

    Args:
        rows: int64 `[words, n]` each.
    """
    found = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=FILLING)
    return found


def _rows(pieces: Seq[tuple[bytes, int]], longest: int) -> Tensor:
    found = torch.full((len(pieces), longest + 1), FILLING, dtype=torch.long)
    for row, (piece, end) in zip(found, pieces, strict=True):
        row[: len(piece) + 1] = torch.tensor([*piece, end])
    return found


__all__ = [
    "FILLING",
    "ON",
    "SPACE",
    "STOP",
    "UNITS",
    "Words",
    "bytes_of",
    "joined",
    "lengths_of",
    "sizes_of",
    "units_of",
]
