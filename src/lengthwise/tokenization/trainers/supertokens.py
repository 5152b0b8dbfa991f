"""Supertokens: BPE over chunks of random length, so that tokens may reach over several words.

Sharthak et al., "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation
and Supertoken Learning", 2025, arXiv:2505.09738. A text is cut for training, and for that alone, at
random: lengths in characters follow a bell from 4 to 23. Ordinary BPE of the chunks is learned, and
the tokenizer cuts texts nowhere. What stands together often is found in one chunk often enough, and
no second stage is needed.

Chunks, at least two occurrences and tokens of fewer than 30 bytes are from the authors' code
(Tinycompany-AI/SuperTokenizer); its shares of lengths add up to 1.1, and we divide by that. It
normalises texts to NFC; ours does not, so that texts come back as they were. Merges are those of
the library's trainer from the same chunks, learned by ours (`merges`): nearly every chunk is
another, so a table of them, as that one has it, is several times as large as the text. None makes
the end token of bytes: where a corpus has it written out, it is text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.tokenization.compiled import kernels
from lengthwise.tokenization.pieces import Bytes
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told
from lengthwise.tokenization.trainers.merges import TOKEN_OF_BYTE, Learner, Rails, Tokens
from lengthwise.tokenization.trainers.spool import spool
from lengthwise.tokenization.trainers.stages import (
    NONE,
    Stage,
    check_merges,
    check_size,
    key_of,
    made_tokenizer,
    sweep,
)

Ints = NDArray[np.int64]

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

    longest: int = option(30, "tokens have fewer bytes than this", low=3)
    min_frequency: int = option(2, "how often a pair occurs at least", low=0)
    seed: int = option(0, "of the lengths of chunks", low=0)
    end: str = option("<|endoftext|>", "the token that ends a document")

    def special(self) -> tuple[str, ...]:
        """See `TokenizerKind.special`."""
        return (self.end,)

    def end_token(self) -> str:
        """See `TokenizerKind.end_token`."""
        return self.end

    def check(self) -> None:
        """See `TokenizerKind.check`."""
        kernels("trainers.merge_kernels")

    def least(self) -> int:
        """See `TokenizerKind.least`."""
        return 257

    def train(self, texts: Texts, size: int, work: Path, told: Told) -> Tokenizer:
        """See `TokenizerKind.train`."""
        check_size(size, self.end)
        told("reading the corpus", 0.0)
        corpus = spool(texts, work)
        path = work / f"chunks-{key_of(self, corpus, size)}.npz"
        stage = Stage(path, size - 1, told, "learning from chunks")
        sweep(work, stage)
        # The library's limit is the first length that is too long.
        rails = Rails(longest=self.longest - 1, never=self.end.encode())

        def begun() -> Learner:
            drawn = np.random.default_rng(self.seed)
            tokens = stage.laid_out(corpus, lambda data, bounds: cut(data, bounds, drawn))
            return Learner(tokens, stage.size, least=self.min_frequency, rails=rails)

        merges = stage.learn(begun, NONE, rails, self.min_frequency)
        check_merges(merges, size, self.min_frequency, told)
        return made_tokenizer(merges, "", self.end)


def lengths(count: int, drawn: np.random.Generator) -> Ints:
    """Characters of so many chunks, int64 `[count]`.

    Args:
        count: of them.
        drawn: where they come from.
    """
    bins = drawn.choice(len(_OFTEN), count, p=np.array(_OFTEN) / sum(_OFTEN))
    return np.asarray(_FIRST + 2 * bins + drawn.integers(0, 2, count), dtype=np.int64)


def cut(data: Bytes, bounds: Ints, drawn: np.random.Generator) -> Tokens:
    """Documents in chunks of random length, as tokens of bytes, with -1 behind every chunk.

    Args:
        data: UTF-8, uint8 `[bytes]`.
        bounds: where documents begin and end in it, int64 `[documents + 1]`.
        drawn: where lengths come from.

    Returns:
        int32 `[bytes + chunks]`.
    """
    characters = np.flatnonzero(data & 0xC0 != 0x80)
    begins = np.zeros(len(data), bool)
    at = np.searchsorted(characters, bounds)
    for first, last in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
        ends = lengths((last - first) // _FIRST + 1, drawn).cumsum()
        begins[characters[first + np.concatenate([[0], ends[ends < last - first]])]] = True
    chunk = begins.cumsum() - 1
    found = np.full(len(data) + int(chunk[-1]) + 1, -1, np.int32)
    found[np.arange(len(data)) + chunk] = TOKEN_OF_BYTE[data]
    return found


__all__ = ["Supertokens", "cut", "lengths"]
