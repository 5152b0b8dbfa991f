"""Laws of the next byte as integer frequencies: what an arithmetic coder asks of its model.

A coder and its decoder must be told the same numbers, so a law gives whole ones. `ByteNGram` counts
and mixes in integers alone, and says the same on every machine. `ModelLaw` asks a tiny decoder of
ours, and says the same where the same torch computes the same row: code and decode on one machine.

    p_o(x) = (c_o(x) + t_o p_{o-1}(x)) / (n_o + t_o)

Here c_o counts x behind the last o bytes, n_o is their sum, and t_o says how many kinds of bytes
were seen there (Witten and Bell, 1991). p_{-1} is uniform.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Seq
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from lengthwise._utils.files import write_aside
from lengthwise.architectures.decoder import Decoder
from lengthwise.errors import TokenizerError

PRECISION = 14
"""Bits of the sum of frequencies, as the paper of Equal-Info Windows has them."""
_TOTAL = 1 << PRECISION
_BYTES = 256
_FORMAT = "lengthwise byte law"
Counts = NDArray[np.int64]


class ByteLaw(Protocol):
    """What a coder asks."""

    @property
    def fingerprint(self) -> str:
        """Of all that the frequencies depend on."""

    def cumulated(self, before: bytes) -> Seq[int]:
        """Sums of the frequencies of the bytes below each byte value.

        Args:
            before: bytes of the window so far.

        Returns:
            257 numbers, from 0 up to the sum of all. A byte of no frequency cannot be coded.
        """


class FixedLaw:
    """The same frequencies behind every text.

    Args:
        frequencies: of bytes; those that are not named have none.

    Raises:
        TokenizerError: where one is below 0, or fewer than two are above.
    """

    def __init__(self, frequencies: dict[int, int]) -> None:
        row = [frequencies.get(byte, 0) for byte in range(_BYTES)]
        if min(row) < 0 or sum(each > 0 for each in row) < 2:
            raise TokenizerError("frequencies are 0 or more, and two at least are above 0")
        self._sums = [0, *accumulate(row)]
        self.fingerprint = _digest(np.array(row, dtype=np.int64))

    def cumulated(self, before: bytes) -> Seq[int]:
        """Sums of the frequencies, whatever stands before.

        Args:
            before: bytes of the window so far.
        """
        return self._sums


class ByteNGram:
    """Frequencies out of counts of byte n-grams, in integers alone.

    Args:
        grams: for each order from 0 up, the n-grams as numbers (the last byte is the lowest eight
            bits) in rising order, int64 `[n]`, and how often each was seen, int64 `[n]`.
    """

    def __init__(self, grams: Seq[tuple[Counts, Counts]]) -> None:
        self._grams = list(grams)
        self._known: dict[bytes, list[int]] = {}
        self.fingerprint = _digest(*(part for pair in self._grams for part in pair))

    @property
    def order(self) -> int:
        """How many bytes it looks back."""
        return len(self._grams) - 1

    @classmethod
    def learn(cls, text: bytes, order: int = 2) -> ByteNGram:
        """Counts a text.

        Args:
            text: at least one byte.
            order: how many bytes the law looks back, 0 to 6.

        Raises:
            TokenizerError: for an empty text, or another order.
        """
        if not text:
            raise TokenizerError("a law of bytes cannot be learned from an empty text")
        if not 0 <= order <= 6:
            raise TokenizerError(f"order={order}: give 0 to 6")
        row = np.frombuffer(text, dtype=np.uint8).astype(np.int64)
        grams, packed = [], row
        for length in range(order + 1):
            if length:
                packed = (packed[:-1] << 8) | row[length:]
            grams.append(np.unique(packed, return_counts=True))
        return cls([(kinds, counts.astype(np.int64)) for kinds, counts in grams])

    def cumulated(self, before: bytes) -> Seq[int]:
        """Sums of the frequencies behind the last bytes.

        Args:
            before: bytes of the window so far.
        """
        context = before[len(before) - min(self.order, len(before)) :]
        found = self._known.get(context)
        if found is None:
            found = self._known[context] = [0, *accumulate(self._mixed(context).tolist())]
        return found

    def _mixed(self, context: bytes) -> Counts:
        mixed = np.full(_BYTES, _TOTAL // _BYTES, dtype=np.int64)
        for length in range(len(context) + 1):
            counts = self._counts(context[len(context) - length :])
            seen, kinds = int(counts.sum()), int(np.count_nonzero(counts))
            if not seen:
                break
            shares = (counts * _TOTAL + kinds * mixed) * (_TOTAL - _BYTES)
            mixed = 1 + shares // (_TOTAL * (seen + kinds))
            mixed[mixed.argmax()] += _TOTAL - mixed.sum()
        return mixed

    def _counts(self, context: bytes) -> Counts:
        kinds, counts = self._grams[len(context)]
        first = int.from_bytes(context, "big") << 8
        low, high = np.searchsorted(kinds, [first, first + _BYTES])
        found = np.zeros(_BYTES, dtype=np.int64)
        found[kinds[low:high] - first] = counts[low:high]
        return found

    def save(self, path: str | Path) -> None:
        """Writes it to a file.

        Args:
            path: of the file, which ends in .safetensors by custom.
        """
        arrays = {
            f"{name}.{order}": part
            for order, pair in enumerate(self._grams)
            for name, part in zip(("grams", "counts"), pair, strict=True)
        }
        with write_aside(path) as aside:
            save_file(arrays, aside, {"format": _FORMAT, "fingerprint": self.fingerprint})

    @classmethod
    def load(cls, path: str | Path) -> ByteNGram:
        """Reads what `save` wrote.

        Args:
            path: of the file.

        Raises:
            TokenizerError: for a file that is none, or is damaged.
        """
        try:
            with safe_open(path, "numpy") as file:
                said = file.metadata() or {}
                orders = len(list(file.keys())) // 2
                grams = [
                    (file.get_tensor(f"grams.{n}"), file.get_tensor(f"counts.{n}"))
                    for n in range(orders)
                ]
        except (OSError, SafetensorError) as error:
            raise TokenizerError(f"{path}: no law of bytes can be read here ({error})") from error
        found = cls(grams)
        if said.get("format") != _FORMAT or said.get("fingerprint") != found.fingerprint:
            raise TokenizerError(
                f"{path}: this is no law of bytes, or it is damaged: learn it anew"
            )
        return found


class ModelLaw:
    """Frequencies out of the logits of a tiny decoder over bytes, one row of one window at a time.

    Args:
        model: a decoder of `lengthwise.architectures` over 257 ids: bytes, and 256 for the
            beginning of a window. It is read on the CPU in float32.
        kept: windows so far whose frequencies are remembered.

    Raises:
        TokenizerError: for a model over other ids.
    """

    def __init__(self, model: Decoder, kept: int = 1 << 18) -> None:
        if model.config.vocab_size != _BYTES + 1:
            raise TokenizerError(
                f"the model has {model.config.vocab_size} ids: a law of bytes needs "
                f"vocab_size={_BYTES + 1}, the bytes and the beginning of a window"
            )
        self._model: nn.Module = nn.Module.to(model, "cpu", torch.float32).train(False)
        self._kept = kept
        self._known: dict[bytes, list[int]] = {}
        self.fingerprint = _digest(
            *(each.detach().numpy() for _, each in sorted(model.state_dict().items()))
        )

    def cumulated(self, before: bytes) -> Seq[int]:
        """Sums of the frequencies behind a window so far.

        Args:
            before: its bytes.
        """
        found = self._known.get(before)
        if found is None:
            if len(self._known) >= self._kept:
                self._known.clear()
            found = self._known[before] = [0, *accumulate(self._asked(before).tolist())]
        return found

    @torch.inference_mode()
    def _asked(self, before: bytes) -> Counts:
        row = torch.tensor([[_BYTES, *before]])
        logits = self._model(input_ids=row).logits[0, -1, :_BYTES].double()
        found = 1 + (logits.softmax(-1) * (_TOTAL - _BYTES)).floor().long().numpy()
        found[found.argmax()] += _TOTAL - found.sum()
        return np.asarray(found, dtype=np.int64)


def frequency(sums: Seq[int], byte: int) -> int:
    """The frequency of a byte.

    Args:
        sums: what a law gives.
        byte: its value.
    """
    return sums[byte + 1] - sums[byte]


def least(sums: Seq[int]) -> int:
    """The smallest frequency above 0.

    Args:
        sums: what a law gives.
    """
    return min(high - low for low, high in pairwise(sums) if high > low)


def _digest(*parts: NDArray[np.generic]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(f"{part.dtype.str}{part.shape}".encode())
        made.update(np.ascontiguousarray(part).tobytes())
    return made.hexdigest()[:16]


__all__ = ["PRECISION", "ByteLaw", "ByteNGram", "FixedLaw", "ModelLaw", "frequency", "least"]
