"""Several models as one, whatever their tokenizers: the mean of their laws of the next byte
(arXiv:2410.09303, section on ensembles)."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq

import numpy as np

from lengthwise.api.bytes_law import ByteReader
from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.byte_covers import ByteLaw


class ByteEnsemble(ByteReader):
    """The arithmetic mean of the laws of several readers of one text.

    A reader to whom the text has no probability any more is left out from there on.

    Args:
        readers: what `Model.bytes` gave for the same text, one a model; or ensembles.
        weights: of each, not negative; None are equal ones. They are scaled to sum to 1.

    Raises:
        LengthwiseError: for no readers, one that is given twice, and weights that do not fit.
    """

    def __init__(self, readers: Seq[ByteReader], weights: Seq[float] | None = None) -> None:
        self.readers = list(readers)
        if not self.readers:
            raise LengthwiseError("an ensemble of no models; give at least one")
        strange = [each for each in self.readers if not isinstance(each, ByteReader)]
        if strange:
            raise LengthwiseError(
                f"an ensemble is made of what Model.bytes gives, and one is a "
                f"{type(strange[0]).__name__}"
            )
        if len({id(each) for each in self.readers}) < len(self.readers):
            raise LengthwiseError("one reader is given twice; give a fork of it")
        given = [1.0] * len(self.readers) if weights is None else list(weights)
        if len(given) != len(self.readers):
            raise LengthwiseError(f"{len(given)} weights for {len(self.readers)} models")
        for each in given:
            if not isinstance(each, (int, float)) or not 0 <= each < math.inf:
                raise LengthwiseError(f"a weight of {each!r}: allowed are numbers from 0 on")
        if sum(given) <= 0:
            raise LengthwiseError("all weights are 0; give at least one that is not")
        self.weights = [each / sum(given) for each in given]

    def law(self) -> ByteLaw:
        probs, end, leak = np.zeros(256), 0.0, 0.0
        whole = sum(self.weights)
        if whole <= 0:
            raise LengthwiseError("no model of the ensemble gives this text any probability")
        for reader, weight in zip(self.readers, self.weights, strict=True):
            if weight:
                law = reader.law()
                probs += weight / whole * law.probs
                end += weight / whole * law.end
                leak += weight / whole * law.leak
        return ByteLaw(probs, end, leak)

    def feed_byte(self, byte: int) -> float:
        prob = float(self.law().probs[byte])
        for number, reader in enumerate(self.readers):
            if self.weights[number] and reader.feed_byte(byte) == -math.inf:
                self.weights[number] = 0.0
        return math.log(prob) if prob > 0 else -math.inf

    def fork(self) -> ByteEnsemble:
        new = ByteEnsemble([each.fork() for each in self.readers])
        new.weights, new._before = list(self.weights), self._before
        return new


__all__ = ["ByteEnsemble"]
