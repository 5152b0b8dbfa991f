"""Equal-Info Windows: text cut where its arithmetic code fills a fixed number of bits.

Lester et al., "Training LLMs over Neurally Compressed Text", TMLR 2024, arXiv:2404.03626.

A small model of bytes (M1) and an arithmetic coder begin anew for every window of b bits, and a
second model (M2) learns the windows as tokens. Without that reset the code looks like noise to M2.

    window    the most bytes x_1..x_n from here on whose code fits in b bits
    interval  I_0 = [0, 2^b);  I_i = the whole numbers of the share of I_{i-1} that M1 gives x_i
    code      the lowest number of I_n that lies in no share of I_n whole
    tokens    the code in pieces of log2 v bits, the highest first

The paper fills a window up with zeros. They can be read as a symbol, and then the decoder cannot
tell where a window ends. With a, b, c, d of 1/2, 1/4, 1/8, 1/8 and b = 8, "adc" in 7 bits and a
zero is also "adca". Ours ends on a number that straddles two shares and so is no symbol's. A
symbol that does not fit covers none whole, so there is one. Its offset is almost always 0, which is
the paper's padding. A text that ends within a window has no such number at times: the stream says
how many bytes it has. Intervals are whole numbers of any size, so nothing is rounded: the paper's
range coder has 14 bits, here those of the frequencies alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lengthwise._utils.files import write_aside
from lengthwise._utils.papers import Paper
from lengthwise._utils.utf8 import utf8
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.byte_laws import ByteLaw, frequency, least

PAPER = Paper(
    "Training LLMs over Neurally Compressed Text", "Lester et al.", 2024, arxiv="2404.03626",
    venue="TMLR",
)  # fmt: skip
_FORMAT = "lengthwise windows"


@dataclass(frozen=True)
class Coded:
    """A text as tokens of windows.

    Attributes:
        tokens: int64 `[n]`.
        size: bytes of the text.
        law: fingerprint of the law that it was coded with.
        bits: of a window.
        vocabulary: ids that a token may have.
    """

    tokens: NDArray[np.int64]
    size: int
    law: str
    bits: int
    vocabulary: int

    def save(self, path: str | Path) -> None:
        """Writes it to a file.

        Args:
            path: of the file.
        """
        said = {"format": _FORMAT, "law": self.law}
        said |= {name: str(getattr(self, name)) for name in ("size", "bits", "vocabulary")}
        with write_aside(path) as aside:
            save_file({"tokens": self.tokens.astype(np.uint32)}, aside, said)

    @classmethod
    def load(cls, path: str | Path) -> Coded:
        """Reads what `save` wrote.

        Args:
            path: of the file.

        Raises:
            TokenizerError: for a file that is none, or is cut short.
        """
        try:
            with safe_open(path, "numpy") as file:
                said = file.metadata() or {}
                tokens = file.get_tensor("tokens").astype(np.int64)
        except (OSError, SafetensorError) as error:
            raise TokenizerError(f"{path}: no windows can be read here ({error})") from error
        if said.get("format") != _FORMAT:
            raise TokenizerError(f"{path}: this file holds no windows of lengthwise")
        return cls(
            tokens, int(said["size"]), said["law"], int(said["bits"]), int(said["vocabulary"])
        )


class EqualInfo:
    """EqualInfoAC[b, v] of the paper: bytes to tokens and back.

    Args:
        law: M1.
        bits: b, of a window; the paper's best is 16.
        vocabulary: v, ids of a token, a power of two. 65,536 with 16 bits is a token a window, 256
            two of them.

    Raises:
        TokenizerError: where windows are not whole tokens, or too small for some byte.
    """

    def __init__(self, law: ByteLaw, bits: int = 16, vocabulary: int = 1 << 16) -> None:
        width = vocabulary.bit_length() - 1
        if width < 1 or vocabulary != 1 << width or bits < 1 or bits % width:
            raise TokenizerError(
                f"bits={bits}, vocabulary={vocabulary}: the vocabulary is a power of two, 2 or "
                "more, and a window is a whole number of its tokens (16 bits go with 256 and 65536)"
            )
        sums = law.cumulated(b"")
        # The share of a byte is at least this wide, so it covers a number whole from 2 on.
        if (least(sums) << bits) < 2 * sums[-1] and not _all_fit(sums, 1 << bits):
            raise TokenizerError(
                f"a window of {bits} bits is too small for the rarest byte of this law, of "
                f"frequency {least(sums)} in {sums[-1]}: take more bits"
            )
        self.law, self.bits, self.vocabulary, self._width = law, bits, vocabulary, width

    @property
    def tokens_per_window(self) -> int:
        """Tokens that a window is written as."""
        return self.bits // self._width

    def windows(self, text: bytes) -> Iterator[tuple[int, int]]:
        """The windows of a text in order: the code of each, and how many bytes it holds.

        Args:
            text: any bytes.

        Raises:
            TokenizerError: for a byte that the law gives no frequency.
        """
        first = 0
        while first < len(text):
            code, count = self._window(text, first)
            yield code, count
            first += count

    def encode(self, text: str | bytes) -> Coded:
        """The tokens of a text.

        Args:
            text: a str is read as UTF-8; bytes may be anything.

        Raises:
            TokenizerError: for text that has no UTF-8, or a byte that the law does not know.
        """
        data = text if isinstance(text, bytes) else utf8(text)
        codes = [code for code, _ in self.windows(data)]
        tokens = np.array([token for code in codes for token in self.split(code)], dtype=np.int64)
        return Coded(tokens, len(data), self.law.fingerprint, self.bits, self.vocabulary)

    def split(self, code: int) -> list[int]:
        """The tokens of one window.

        Args:
            code: of the window, below 2^bits.
        """
        shifts = range(self.bits - self._width, -1, -self._width)
        return [(code >> shift) & (self.vocabulary - 1) for shift in shifts]

    def decode(self, coded: Coded) -> bytes:
        """The text of windows, exactly.

        Args:
            coded: what `encode` gave.

        Raises:
            TokenizerError: for windows of another law or size, and for a stream that is cut short.
        """
        self._check(coded)
        codes = coded.tokens.reshape(-1, self.tokens_per_window)
        found = bytearray()
        for row in codes.tolist():
            found += self.decode_window(row, coded.size - len(found))
        if len(found) != coded.size:
            raise TokenizerError(
                f"these windows hold {len(found)} bytes and their text had {coded.size}: the "
                "stream was cut short or changed"
            )
        return bytes(found)

    def decode_window(self, tokens: Seq[int], most: int = 1 << 20) -> bytes:
        """The bytes of one window, which needs no other.

        Args:
            tokens: of the window.
            most: bytes that the text still has; only its last window needs it.
        """
        code = 0
        for token in tokens:
            code = (code << self._width) | token
        offset, size, found = code, 1 << self.bits, bytearray()
        while len(found) < most and size > 1:
            sums = self.law.cumulated(bytes(found))
            byte = bisect_right(sums, offset * sums[-1] // size) - 1
            low, high = _share(sums, byte, size)
            if offset >= high:
                break
            found.append(byte)
            offset, size = offset - low, high - low
        return bytes(found)

    def _window(self, text: bytes, first: int) -> tuple[int, int]:
        low, size, at = 0, 1 << self.bits, first
        sums = self.law.cumulated(b"")
        while at < len(text) and size > 1:
            start, end = _share(sums, text[at], size)
            if end <= start:
                break
            low, size, at = low + start, end - start, at + 1
            sums = self.law.cumulated(text[first:at])
        if at == first:
            raise TokenizerError(
                f"byte 0x{text[at]:02x} at {at} has frequency {frequency(sums, text[at])} in "
                f"{sums[-1]}: the law cannot code it; learn the law from text that has it"
            )
        return low + _end(sums, size), at - first

    def _check(self, coded: Coded) -> None:
        if coded.law != self.law.fingerprint:
            raise TokenizerError(
                f"these windows were coded with another law of bytes (fingerprint {coded.law}, "
                f"here {self.law.fingerprint}): decode them with the law that made them"
            )
        if (coded.bits, coded.vocabulary) != (self.bits, self.vocabulary):
            raise TokenizerError(
                f"these windows have {coded.bits} bits in tokens of {coded.vocabulary} ids, here "
                f"they have {self.bits} and {self.vocabulary}: decode them with their own"
            )
        if len(coded.tokens) % self.tokens_per_window:
            raise TokenizerError(
                f"{len(coded.tokens)} tokens are no whole number of windows of "
                f"{self.tokens_per_window} tokens: the stream was cut short"
            )
        if len(coded.tokens) and not 0 <= coded.tokens.min() <= coded.tokens.max() < (
            self.vocabulary
        ):
            raise TokenizerError(f"tokens of these windows are 0 to {self.vocabulary - 1}")


def _share(sums: Seq[int], byte: int, size: int) -> tuple[int, int]:
    """The whole numbers below `size` that belong to a byte, half open."""
    total = sums[-1]
    return -(-size * sums[byte] // total), size * sums[byte + 1] // total


def _end(sums: Seq[int], size: int) -> int:
    """The lowest number below `size` that no byte's share covers whole; 0 where there is none."""
    total = sums[-1]
    return next((size * each // total for each in sums if size * each % total), 0)


def _all_fit(sums: Seq[int], size: int) -> bool:
    for byte in range(len(sums) - 1):
        low, high = _share(sums, byte, size)
        if frequency(sums, byte) and high <= low:
            return False
    return True


__all__ = ["PAPER", "Coded", "EqualInfo"]
