"""Byte-pair encoding: the most frequent pair of neighbours becomes one token, again and again.

Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016,
arXiv:1508.07909. Words are spelled in an alphabet; the pair of neighbours that occurs most is
merged, until the vocabulary is as large as asked. A text is encoded by the same merges in their
order.

    merge (x, y) with the largest count of x followed by y in the words of the corpus

Ours: the alphabet is the 256 bytes, as GPT-2 has it, so that any text comes back exactly. The
`tokenizers` library trains it, and its result is the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tokenizers import Tokenizer, models, trainers

from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.tokenization.trainers.byte_level import ALPHABET, byte_level, digits_option
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told


@dataclass(frozen=True)
class Bpe(TokenizerKind):
    """Merges the most frequent pair, over bytes."""

    name: ClassVar[str] = "bpe"
    paper: ClassVar[Paper] = Paper(
        "Neural Machine Translation of Rare Words with Subword Units",
        "Sennrich et al.",
        2016,
        arxiv="1508.07909",
        venue="ACL",
        code="https://github.com/rsennrich/subword-nmt",
    )

    digits: str = digits_option()
    min_frequency: int = option(2, "how often a pair occurs at least", low=1)
    longest: int | None = option(None, "bytes of the longest token", low=2)

    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        tokenizer = byte_level(models.BPE(), self.digits)
        # The library's limit is the first length that is too long.
        trainer = trainers.BpeTrainer(
            vocab_size=size, min_frequency=self.min_frequency, initial_alphabet=list(ALPHABET),
            max_token_length=self.longest and self.longest + 1, show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(texts(), trainer)
        told("merging", 1.0)
        return tokenizer


__all__ = ["Bpe"]
