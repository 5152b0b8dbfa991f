"""Crosslingual tokenizer inequities (arXiv 2510.21909, 2025): spread, and a vocabulary a language.

Tokenizers of one size and one amount of text need very different numbers of tokens for the same
content. Vocabulary size and the split at white space explain much of it, so the size is chosen for
each language:

    ln CTC = a + b ln V            fitted for a language over some sizes V
    V* = exp((ln CTC* - a) / b)    the size at which it needs CTC* tokens

CTC is the count of tokens of the language's side of a parallel text. Power laws are not good beyond
what they were fitted on, so a size outside the fitted range says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np

from lengthwise.errors import TokenizerError


@dataclass(frozen=True, slots=True)
class TokenCountLaw:
    """ln CTC = a + b ln V. smallest, largest: sizes that it was fitted on."""

    a: float
    b: float
    smallest: float
    largest: float

    def tokens(self, size: float) -> float:
        """The CTC at a vocabulary size.

        Args:
            size: tokens of the vocabulary.
        """
        return math.exp(self.a + self.b * math.log(size))

    def size(self, tokens: float) -> float:
        """The vocabulary size at which a language needs so many tokens.

        Args:
            tokens: the CTC that is wanted.
        """
        return math.exp((math.log(tokens) - self.a) / self.b)

    def covers(self, size: float) -> bool:
        """Whether a size lies within those fitted on.

        Args:
            size: tokens of the vocabulary.
        """
        return self.smallest <= size <= self.largest


def fit_token_counts(sizes: Seq[float], tokens: Seq[float]) -> TokenCountLaw:
    """The least-squares line through ln CTC over ln V.

    Args:
        sizes: vocabulary sizes, two different ones at least.
        tokens: the CTC at each.

    Raises:
        TokenizerError: for fewer sizes, for figures that are not positive, and where a larger
            vocabulary does not need fewer tokens.
    """
    if len(sizes) != len(tokens) or len(set(sizes)) < 2 or min((*sizes, *tokens)) <= 0:
        raise TokenizerError(
            "a law of token counts needs two vocabulary sizes at least, and a positive count for "
            f"each; given are sizes {list(sizes)} and counts {list(tokens)}"
        )
    b, a = np.polyfit(np.log(sizes), np.log(tokens), 1)
    if b >= 0:
        raise TokenizerError(
            f"larger vocabularies do not need fewer tokens here (slope {b:.3g}): no size can be "
            "chosen by them"
        )
    return TokenCountLaw(float(a), float(b), min(sizes), max(sizes))


@dataclass(frozen=True, slots=True)
class Spread:
    """How unequal token counts are. ratio: the largest over the smallest. variation: standard
    deviation over mean. mean: of the counts."""

    ratio: float
    variation: float
    mean: float


def spread_of(counts: Seq[float]) -> Spread:
    """How unequal the counts of languages are, on one parallel text.

    Args:
        counts: tokens of each language, one at least.
    """
    values = np.asarray(counts, dtype=np.float64)
    mean = float(values.mean())
    return Spread(float(values.max() / max(values.min(), 1e-12)), float(values.std()) / mean, mean)


__all__ = ["Spread", "TokenCountLaw", "fit_token_counts", "spread_of"]
