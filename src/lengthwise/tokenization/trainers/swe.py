"""SWE: sub-words by likelihood; a merge is chosen by how much likelier it makes the corpus.

Fulu Li, "The Nature of Mathematical Modeling and Probabilistic Optimization Engineering in
Generative AI", 2024, arXiv:2410.18441, which proposes a sub-word encoding that begins as BPE does
and chooses as WordPiece would. What follows is a reconstruction from the abstract; the formulas are
ours, and so is what is tried.

    p(s) = c(s) / N      LL = sum_s c(s) ln p(s)      merge the pair with the largest gain in LL

(`likelihood.py` has the gain). It is taken as it is, where WordPiece's m / (c(x) c(y)) is about the
gain of one occurrence. Pairs are merged while the largest gain is above 0, so LL never falls.

Every `again` merges the words are segmented anew by Viterbi under p, and counts are taken anew,
which lets LL rise further. The new segmentation is at least as likely under the old p, and the new
p fits it best. What is then used nowhere, and is no byte, leaves the vocabulary. Steps are greedy:
the paper's word for its result, optimal, holds for each merge alone.

The tokenizer is a unigram model with the last p as its scores, because that is what the likelihood
is of: it gives each word its likeliest segmentation, as Viterbi did in training. Merges in their
order would give another one as soon as words were segmented anew.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from tokenizers import Tokenizer, models

from lengthwise._utils.files import write_text
from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.tokenization.trainers.byte_level import (
    ALPHABET,
    UNSEEN,
    byte_level,
    cutter,
    digits_option,
    spelled,
)
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told
from lengthwise.tokenization.trainers.likelihood import Gains, Symbols
from lengthwise.tokenization.trainers.piece_counts import count_pieces

FILE = "symbols.json"


@dataclass(frozen=True)
class Swe(TokenizerKind):
    """Merges the pair that raises the likelihood of the corpus most."""

    name: ClassVar[str] = "swe"
    paper: ClassVar[Paper] = Paper(
        "The Nature of Mathematical Modeling and Probabilistic Optimization Engineering in "
        "Generative AI",
        "Fulu Li",
        2024,
        arxiv="2410.18441",
    )

    digits: str = digits_option()
    again: int = option(1000, "merges between two segmentations", low=1)
    min_frequency: int = option(2, "how often a pair occurs at least", low=1)

    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        counts = count_pieces(texts, cutter(self.digits), work, told)
        symbols = _begun({spelled(piece): count for piece, count in counts.items()}, work)
        while len(symbols.names) < size:
            before = set(symbols.names)
            self._merge(symbols, size)
            _segment(symbols, work)
            told("merging by likelihood", len(symbols.names) / size)
            if before.issuperset(symbols.names):
                break
        ordered = sorted(_scores(symbols).items(), key=lambda item: (-item[1], item[0]))
        return byte_level(models.Unigram(ordered), self.digits)

    def _merge(self, symbols: Symbols, size: int) -> None:
        """Merges until words are to be segmented anew, the vocabulary is full or none gains."""
        gains = Gains(symbols, self.min_frequency)
        for _ in range(self.again):
            best = gains.best() if len(symbols.names) < size else None
            if best is None or best[1] <= 0:
                return
            gains.merge(best[0])


def _begun(words: dict[str, int], work: Path) -> Symbols:
    """Words as bytes, or as they were last segmented where training was stopped."""
    path = work / FILE
    if path.exists():
        names, counts = json.loads(path.read_text(encoding="utf-8"))
        symbols = Symbols(words, names)
        symbols.counts = counts
        _segment(symbols, None)
        return symbols
    symbols = Symbols(words, list(ALPHABET))
    symbols.segment([[symbols.ids[letter] for letter in word] for word in words])
    return symbols


def _segment(symbols: Symbols, work: Path | None) -> None:
    """The likeliest segmentation of each word under the counts so far, and counts anew.

    What it starts from is kept in the work folder.
    """
    if work is not None:
        kept = [
            (name, count)
            for name, count in zip(symbols.names, symbols.counts, strict=True)
            if count or len(name) == 1
        ]
        write_text(work / FILE, json.dumps(list(zip(*kept, strict=True))))
        symbols.rename([name for name, _ in kept])
        symbols.counts = [count for _, count in kept]
    model = models.Unigram(list(_scores(symbols).items()))
    symbols.segment([[found.id for found in model.tokenize(word)] for word in symbols.words])


def _scores(symbols: Symbols) -> dict[str, float]:
    """The logarithm of each token's probability, in the order of the symbols."""
    counts = np.array(symbols.counts, np.float64)
    total = math.log(max(counts.sum(), 1.0))
    lowest = math.log(counts[counts > 0].min(initial=np.inf)) - total - UNSEEN
    return {
        name: math.log(count) - total if count else lowest
        for name, count in zip(symbols.names, symbols.counts, strict=True)
    }


__all__ = ["Swe"]
