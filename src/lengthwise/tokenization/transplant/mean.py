"""FVT: a new token is the mean of the old tokens that spell it.

Gee et al., "Fast Vocabulary Transfer for Language Model Compression" (EMNLP 2022 industry track,
arXiv 2402.09977). Embeddings of tokens in both vocabularies are copied. For a new token t that the
old tokenizer cuts into p_1 ... p_n,

    E_new[t] = (E_old[p_1] + ... + E_old[p_n]) / n

The paper does so for encoders. Here the same mean is taken of input and output embeddings, as later
papers do when they compare with it.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.tokenization.trainers.kind import Told
from lengthwise.tokenization.transplant.method import Donor
from lengthwise.tokenization.transplant.mixture import Mixing, Weights


@dataclass(frozen=True)
class Mean(Mixing):
    """The mean of the pieces."""

    name: ClassVar[str] = "mean"
    paper: ClassVar[Paper] = Paper(
        "Fast Vocabulary Transfer for Language Model Compression", "Gee et al.", 2022,
        arxiv="2402.09977", venue="EMNLP",
    )  # fmt: skip

    def weights(self, donor: Donor, told: Told) -> Seq[Weights]:
        """Equal ones, see `Mixing.weights`. A piece that stands twice counts twice."""
        return [uniform(pieces) for pieces in donor.pieces]


def uniform(pieces: Seq[int]) -> Weights:
    """Equal weights of tokens, which may repeat.

    Args:
        pieces: the tokens.
    """
    found: dict[int, float] = {}
    for each in pieces:
        found[each] = found.get(each, 0.0) + 1 / len(pieces)
    return found


__all__ = ["Mean", "uniform"]
