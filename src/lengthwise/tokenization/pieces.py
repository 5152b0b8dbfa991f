"""The pieces of texts: fast for the patterns of `trainers/patterns`, by the library for any other.

What a character is, the library is asked once, so that both cut alike whatever Unicode it knows.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, normalizers
from tokenizers.pre_tokenizers import PreTokenizer

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.compiled import kernels
from lengthwise.tokenization.trainers.patterns import SUPERWORDS, WORDS, split_by

Bytes = NDArray[np.uint8]
Counts = NDArray[np.int64]
LONGEST = 2**31 - 2
"""Bytes of the texts that are cut at once: places are numbers of 32 bits."""
_CODES = 0x110000
# In the order of piece_kernels; symbols are the rest.
_CLASSES = (r"[\p{Lu}\p{Lt}]", r"\p{Ll}", r"[\p{Lm}\p{Lo}]", r"\p{M}", r"\p{N}", r"\s", r"[\r\n]")


class Cutter:
    """Cuts texts into pieces by a pattern.

    pattern: a regular expression; "" leaves texts whole.

    Raises TokenizerError where it is none.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._known = {WORDS: 0, SUPERWORDS: 1}.get(pattern)
        self._by_library: PreTokenizer | None = None
        if pattern and self._known is None:
            self._by_library = split_by(pattern)

    def ends(self, data: Bytes, bounds: NDArray[np.int64]) -> tuple[NDArray[np.int32], Counts]:
        """Where pieces end.

        Args:
            data: texts in UTF-8, one behind the other, uint8 `[bytes]`.
            bounds: where each begins and the last one ends, int64 `[texts + 1]`.

        Returns:
            the ends of all pieces, int32 `[pieces]`, and for each text how many pieces there are
            up to its end, int64 `[texts]`.
        """
        if not self.pattern:
            filled = bounds[1:] > bounds[:-1]
            return bounds[1:][filled].astype(np.int32), np.cumsum(filled)
        if self._known is None:
            return self.ends_by_library(data, bounds)
        ends = np.empty(len(data), dtype=np.int32)
        cut = kernels("piece_kernels").cut
        counts: Counts = cut(data, bounds, character_classes(), self._known, ends)
        number = int(counts[-1]) if len(counts) else 0
        return ends[:number].copy(), counts

    def ends_by_library(
        self, data: Bytes, bounds: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], Counts]:
        """The same by the library: the plain twin, and the way of every other pattern.

        Args:
            data, bounds: as for `ends`.
        """
        by = self._by_library or split_by(self.pattern)
        found: list[int] = []
        counts = []
        raw = data.tobytes()
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            for piece, _ in by.pre_tokenize_str(raw[start:end].decode()):
                start += len(piece.encode())
                found.append(start)
            counts.append(len(found))
        return np.array(found, dtype=np.int32), np.array(counts, dtype=np.int64)


def joined(texts: Seq[bytes]) -> tuple[Bytes, NDArray[np.int64]]:
    """Texts one behind the other, uint8 `[bytes]`, and their bounds, int64 `[texts + 1]`.

    Args:
        texts: in UTF-8.

    Raises:
        TokenizerError: more than `LONGEST` bytes.
    """
    bounds = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=bounds[1:])
    if bounds[-1] > LONGEST:
        raise TokenizerError(
            f"texts of {bounds[-1]:,} bytes are too long to be cut at once (at most {LONGEST:,}): "
            "give them in parts"
        )
    return np.frombuffer(b"".join(texts), dtype=np.uint8), bounds


@cache
def character_classes() -> Bytes:
    """The class of every code point, uint8 `[0x110000]`, numbered as in `piece_kernels`."""
    codes = np.delete(np.arange(_CODES, dtype=np.uint32), slice(0xD800, 0xE000))
    every = codes.tobytes().decode("utf-32-le")
    found = np.zeros(_CODES, dtype=np.uint8)
    for number, pattern in enumerate(_CLASSES, start=1):
        # "x" is in none of the classes above "small letter", "0" in none of the first two.
        other = "0" if number < 3 else "x"
        changed = normalizers.Replace(Regex(pattern), other).normalize_str(every)
        found[codes[np.frombuffer(changed.encode("utf-32-le"), dtype=np.uint32) != codes]] = number
    return found


__all__ = ["LONGEST", "Bytes", "Counts", "Cutter", "character_classes", "joined"]
