"""Supertokens: BPE over chunks of random length, so that tokens may reach over several words.

Sharthak et al., "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation
and Supertoken Learning", 2025, arXiv:2505.09738. A text is cut for training, and for that alone, at
random: lengths in characters follow a bell from 4 to 23. The library's trainer learns ordinary BPE
of the chunks, and the tokenizer cuts texts nowhere. What stands together often is found in one
chunk often enough, and no second stage is needed.

Chunks, at least two occurrences and tokens of fewer than 30 bytes are from the authors' code
(Tinycompany-AI/SuperTokenizer); its shares of lengths add up to 1.1, and we divide by that. It
normalises texts to NFC; ours does not, so that texts come back as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told
from lengthwise.tokenization.trainers.patterns import cut_by, of_bytes

# Lengths 4 and 5, 6 and 7, ..., 22 and 23, by how often each pair of them is drawn, in thousandths.
_FIRST = 4
_OFTEN = (44, 91, 146, 171, 185, 171, 146, 91, 44, 11)


@dataclass(frozen=True)
class Supertokens(TokenizerKind):
    """BPE over chunks of random length."""

    paper: ClassVar[Paper] = Paper(
        "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation and "
        "Supertoken Learning",
        "Sharthak et al.",
        2025,
        arxiv="2505.09738",
        code="https://github.com/Tinycompany-AI/SuperTokenizer",
    )

    longest: int = option(30, "tokens have fewer bytes than this", low=2)
    min_frequency: int = option(2, "how often a pair occurs at least", low=0)
    seed: int = option(0, "of the lengths of chunks", low=0)
    end: str = option("<|endoftext|>", "the token that ends a document")

    def special(self) -> tuple[str, ...]:
        """See `TokenizerKind.special`."""
        return (self.end,)

    def least(self) -> int:
        """See `TokenizerKind.least`."""
        return 257

    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        """See `TokenizerKind.train`; the library's trainer keeps nothing in `work`."""
        if size < 257:
            raise TokenizerError(
                f"size {size} is too small: the 256 bytes and {self.end} need 257 tokens at least"
            )
        told("learning from chunks", 0.0)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = cut_by("")
        tokenizer.decoder = of_bytes()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=self.min_frequency,
            special_tokens=[self.end],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            max_token_length=self.longest,
            show_progress=False,
        )
        tokenizer.train_from_iterator(self._chunked(texts), trainer)
        if tokenizer.get_vocab_size() <= 257:
            raise TokenizerError(
                "nothing can be learned from this corpus: no two bytes stand together at least "
                f"{max(self.min_frequency, 1)} times; give more text"
            )
        told("learning from chunks", 1.0)
        return tokenizer

    def _chunked(self, texts: Texts) -> Iterator[list[str]]:
        drawn = Random(self.seed)
        for text in texts():
            yield chunks(text, drawn)


def chunks(text: str, drawn: Random) -> list[str]:
    """A text in chunks of random length.

    Args:
        text: any; the last chunk is what is left.
        drawn: where lengths come from.
    """
    bins = range(_FIRST, _FIRST + 2 * len(_OFTEN), 2)
    found, at = [], 0
    while at < len(text):
        shortest = drawn.choices(bins, _OFTEN)[0]
        end = at + shortest + (drawn.random() < 0.5)
        found.append(text[at:end])
        at = end
    return found


__all__ = ["Supertokens", "chunks"]
