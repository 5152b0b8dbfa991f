"""SuperBPE: a vocabulary of words and of what stands together over spaces.

Liu et al., "SuperBPE: Space Travel for Language Models", COLM 2025, arXiv:2503.13423. Two stages of
BPE with one list of merges:

    1. within words (`patterns.WORDS`), until the vocabulary has `transition` tokens;
    2. go on from these merges over spaces (`patterns.SUPERWORDS`): groups of one to three digits,
       runs of symbols and spaces that no word follows still stand alone.

The tokenizer has all merges in their order and the pattern of stage 2 alone, so it is a plain
`tokenizer.json`. At transition 0 this is BPE without regard to spaces, at 1 it is plain BPE.

From the authors' code: a token has at most four words (its parts between spaces), and none goes on
with a space behind a colon; a merge that would break this is left out. Documents longer than the
99th percentile are cut to it, for training alone. Defaults are the paper's best model, 180k of
200k tokens; 80k of them gives the most bytes a token.

Ours differs in the trainer (`merges`), which reads stage 2 in linear memory, and in three things.
All 256 bytes are tokens, so that every text can be written. A pair of stage 1 that comes up in
stage 2 is merged at once, as the encoder will do it. No merge makes the end token of bytes: written
out in a corpus, it is text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lengthwise._utils.options import option
from lengthwise._utils.papers import Paper
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.compiled import kernels
from lengthwise.tokenization.fast_bpe import BytePairs
from lengthwise.tokenization.pieces import Bytes, Cutter
from lengthwise.tokenization.trainers.kind import Texts, TokenizerKind, Told
from lengthwise.tokenization.trainers.merges import Learner, Rails, Tokens
from lengthwise.tokenization.trainers.patterns import SUPERWORDS, WORDS
from lengthwise.tokenization.trainers.spool import Corpus, spool
from lengthwise.tokenization.trainers.stages import (
    NONE,
    Stage,
    check_merges,
    check_size,
    key_of,
    made_tokenizer,
    sweep,
    token_bytes,
)
from lengthwise.tokenization.trainers.word_counts import WordCounts


@dataclass(frozen=True)
class SuperBPE(TokenizerKind):
    """BPE within words, then over spaces."""

    paper: ClassVar[Paper] = Paper(
        "SuperBPE: Space Travel for Language Models",
        "Liu et al.",
        2025,
        arxiv="2503.13423",
        venue="COLM",
        code="https://github.com/PythonNut/superbpe",
    )
    best_known: ClassVar[str] = "transition=0.4"

    transition: float = option(
        0.9, "where stage 1 ends: a share of the vocabulary up to 1, tokens above that", low=0
    )
    most_words: int = option(4, "words in a token of stage 2; 0 is any number", low=0)
    past_colon: bool = option(False, "whether a token goes on with a space behind a colon")
    percentile: float = option(
        99.0, "of document lengths, to which longer ones are cut; 100 cuts none", low=1, high=100
    )
    min_frequency: int = option(0, "how often a pair occurs at least", low=0)
    end: str = option("<|endoftext|>", "the token that ends a document")
    words: str = option(WORDS, "the pattern of stage 1")
    superwords: str = option(SUPERWORDS, "the pattern of stage 2")

    def __post_init__(self) -> None:
        """Raises TokenizerError for a pattern that is none."""
        super().__post_init__()
        for name in ("words", "superwords"):
            try:
                Cutter(getattr(self, name))
            except TokenizerError as error:
                raise TokenizerError(f"superbpe: {name}={error}") from None

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
        first = self._first_size(size)
        told("reading the corpus", 0.0)
        corpus = self._truncated(spool(texts, work), told)
        key = key_of(self, corpus, size)
        within = Stage(work / f"words-{key}.npz", first - 1, told, "merges within words")
        across = Stage(work / f"superwords-{key}.npz", size - 1, told, "merges over spaces")
        sweep(work, within, across)
        merges = self._within(corpus, within) if first > 257 else NONE
        if size > first:
            merges = np.concatenate([merges, self._across(corpus, across, merges)])
        check_merges(merges, size, self.min_frequency, told)
        return made_tokenizer(merges, self.superwords if size > first else self.words, self.end)

    def _first_size(self, size: int) -> int:
        """Tokens of the vocabulary where stage 1 ends."""
        check_size(size, self.end)
        if self.transition > size:
            raise TokenizerError(
                f"transition {self.transition:g} is above the size of the vocabulary, {size}: "
                "give a share up to 1, or at most as many tokens"
            )
        share = self.transition <= 1
        return max(round(self.transition * size) if share else int(self.transition), 257)

    def _truncated(self, corpus: Corpus, told: Told) -> Corpus:
        lengths = corpus.lengths
        limit = int(np.percentile(lengths, self.percentile, method="higher"))
        longer = int((lengths > limit).sum())
        if not longer:
            return corpus
        told(f"{longer} of {len(lengths)} documents are cut to {limit} bytes for training", 0.0)
        return replace(corpus, limit=limit)

    def _within(self, corpus: Corpus, stage: Stage) -> Tokens:
        """Stage 1: merges within words."""
        rails = Rails(never=self.end.encode())

        def begun() -> Learner:
            cutter, counts, done = Cutter(self.words), WordCounts(), 0
            for data, bounds in corpus.chunks():
                counts.add(data, cutter.ends(data, bounds)[0])
                done += len(data)
                stage.told("counting words", done / corpus.bytes_read)
            tokens, weights = counts.laid_out()
            return Learner(tokens, stage.size, weights, least=self.min_frequency, rails=rails)

        return stage.learn(begun, NONE, rails, self.min_frequency)

    def _across(self, corpus: Corpus, stage: Stage, before: Tokens) -> Tokens:
        """Stage 2: merges over spaces, behind those of stage 1."""
        rails = Rails(self.most_words, self.past_colon, never=self.end.encode())

        def begun() -> Learner:
            tokens = laid_out(corpus, self.superwords, before, stage)
            return Learner(tokens, stage.size, before=before, least=self.min_frequency, rails=rails)

        return stage.learn(begun, before, rails, self.min_frequency)


def laid_out(corpus: Corpus, pattern: str, merges: Tokens, stage: Stage) -> Tokens:
    """A corpus in the tokens of merges, int32 `[places]`, with -1 around every piece.

    Pieces of one token are left out.
    """
    spelled, made = token_bytes(merges)
    pairs, cutter = BytePairs(spelled, merges, made), Cutter(pattern)

    def of(data: Bytes, bounds: NDArray[np.int64]) -> Tokens:
        return pairs.encode(data, *cutter.ends(data, bounds), apart=True)[0]

    return stage.laid_out(corpus, of)


__all__ = ["SuperBPE", "laid_out"]
