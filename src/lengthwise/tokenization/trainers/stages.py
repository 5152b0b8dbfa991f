"""Stages of learning merges, each with a file that it goes on from, and tokenizers of merges."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models

from lengthwise._utils.files import ASIDE
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.pieces import Bytes
from lengthwise.tokenization.trainers.kind import TokenizerKind, Told
from lengthwise.tokenization.trainers.merges import BYTES, LETTERS, Learner, Rails, Tokens
from lengthwise.tokenization.trainers.patterns import cut_by, of_bytes
from lengthwise.tokenization.trainers.spool import Corpus

NONE = np.empty((0, 2), np.int32)
"""No merges."""
# Changes when files of an older run would not do.
_FORMAT = "2"


@dataclass(frozen=True)
class Stage:
    """A run of merges with the file that it goes on from.

    size: tokens at its end, bytes included.
    """

    path: Path
    size: int
    told: Told
    what: str

    def learn(
        self, begun: Callable[[], Learner], before: Tokens, rails: Rails, least: int
    ) -> Tokens:
        """The merges: of a file that is there, or of what `begun` makes."""
        learner = self._resumed(before, rails, least) or begun()
        return learner.learn(lambda share: self.told(self.what, share), keep=self.path)

    def laid_out(self, corpus: Corpus, of: Callable[[Bytes, NDArray[np.int64]], Tokens]) -> Tokens:
        """A corpus in tokens, int32 `[places]`, by way of a file, so that it is in memory once.

        of: gives the tokens of some megabytes, uint8 `[bytes]` and the bounds of documents, with -1
            behind every piece.
        """
        path, done = self.path.with_suffix(".tokens"), 0
        with path.open("wb") as file:
            np.full(1, -1, np.int32).tofile(file)
            for data, bounds in corpus.chunks():
                of(data, bounds).tofile(file)
                done += len(data)
                self.told("encoding the corpus", done / corpus.bytes_read)
        tokens = np.fromfile(path, np.int32)
        path.unlink()
        return tokens

    def _resumed(self, before: Tokens, rails: Rails, least: int) -> Learner | None:
        if not self.path.exists():
            return None
        learner = Learner(np.full(1, -1, np.int32), self.size, None, before, least, rails)
        try:
            learner.resume(self.path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            self.told(f"{self.path.name} is damaged and made anew", 0.0)
            return None
        return learner


def key_of(kind: TokenizerKind, corpus: Corpus, size: int) -> str:
    """Names what a run learns: its kind and options, its corpus, its size.

    Args:
        kind: with its options.
        corpus: as it is read.
        size: tokens of the vocabulary.
    """
    options = sorted((each.name, getattr(kind, each.name)) for each in fields(kind))  # type: ignore[arg-type]
    told = f"{_FORMAT} {corpus.digest} {corpus.limit} {size} {options}"
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def sweep(work: Path, *stages: Stage) -> None:
    """Removes what an older run left in `work`, and what a killed one was writing.

    Args:
        work: the folder.
        stages: of this run, whose files stay.
    """
    kept = {stage.path for stage in stages}
    names = {stage.path.name.partition("-")[0] for stage in stages}
    left = {path for name in names for path in work.glob(f"{name}-*")}
    for each in {*left, *work.glob(f".*{ASIDE}")} - kept:
        each.unlink()


def check_size(size: int, end: str) -> None:
    """Refuses a vocabulary that is smaller than its alphabet.

    Args:
        size: of it.
        end: the token that ends a document.

    Raises:
        TokenizerError: says how many tokens there are at least.
    """
    if size < 257:
        raise TokenizerError(
            f"size {size} is too small: the 256 bytes and {end} need 257 tokens at least"
        )


def check_merges(merges: Tokens, size: int, least: int, told: Told) -> None:
    """Refuses a corpus that nothing was learned from, and tells of one that had too few pairs.

    Args:
        merges: learned.
        size: tokens that were asked for.
        least: how often a pair had to occur.
        told: of the run.

    Raises:
        TokenizerError: there is no merge.
    """
    if not len(merges):
        raise TokenizerError(
            "nothing can be learned from this corpus: no two bytes stand together at least "
            f"{max(least, 1)} times; give more text"
        )
    if len(merges) + 257 < size:
        told(f"the corpus has pairs for {len(merges) + 257} of {size} tokens", 1.0)


def token_bytes(merges: Tokens) -> tuple[list[bytes], Tokens]:
    """The bytes of every token, and the token that each merge makes, int32 `[merges]`."""
    spelled = [bytes([byte]) for byte in BYTES]
    known = {word: token for token, word in enumerate(spelled)}
    made = []
    for left, right in merges.tolist():
        word = spelled[left] + spelled[right]
        if word not in known:
            known[word] = len(spelled)
            spelled.append(word)
        made.append(known[word])
    return spelled, np.array(made, np.int32)


def made_tokenizer(merges: Tokens, pattern: str, end: str) -> Tokenizer:
    """A tokenizer of merges whose first token is `end`, as the library's trainer orders them."""
    spelled = list(LETTERS)
    vocab = {word: token for token, word in enumerate([end, *LETTERS])}
    pairs = []
    for left, right in merges.tolist():
        word = spelled[left] + spelled[right]
        pairs.append((spelled[left], spelled[right]))
        if word not in vocab:
            vocab[word] = len(vocab)
            spelled.append(word)
    tokenizer = Tokenizer(models.BPE(vocab, pairs))
    tokenizer.pre_tokenizer = cut_by(pattern)
    tokenizer.decoder = of_bytes()
    tokenizer.add_special_tokens([end])
    return tokenizer


__all__ = [
    "NONE",
    "Stage",
    "check_merges",
    "check_size",
    "key_of",
    "made_tokenizer",
    "sweep",
    "token_bytes",
]
