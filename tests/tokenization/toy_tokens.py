"""The card's toy: five tokens over the letters A and B, three merges, and a Markov model of tokens
that writes what its tokenizer would. Its laws of bytes are known by going through all texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence as Seq
from functools import cache
from typing import Any

import numpy as np

from lengthwise.tokenization.byte_covers import ByteCovers
from lengthwise.tokenization.token_bytes import ByteVocabulary, Floats

WORDS = (b"A", b"B", b"BA", b"BAA", b"AA")
END = len(WORDS)
MERGES = ((b"B", b"A"), (b"BA", b"A"), (b"A", b"A"))
# Behind "BA" the tokens BA and BAA are left; the card's figure for another A.
EXACT = 0.741
START = np.array([0.25, 0.2, 0.4 * (1 - EXACT), 0.4 * EXACT, 0.15, 0.0])


def tokenize(text: bytes) -> list[int]:
    """Byte pair encoding: the first merge everywhere, then the next."""
    found = [text[i : i + 1] for i in range(len(text))]
    for left, right in MERGES:
        at = 0
        while at < len(found) - 1:
            if (found[at], found[at + 1]) == (left, right):
                found[at : at + 2] = [left + right]
            at += 1
    return [WORDS.index(each) for each in found]


class ToySpelling:
    """`Spelling` of the toy."""

    vocabulary = ByteVocabulary([*WORDS, None])

    def viable(self, path: Seq[int], tokens: Seq[int]) -> Any:
        return np.array([self.complete([*path, token]) for token in tokens], dtype=bool)

    def complete(self, path: Seq[int]) -> bool:
        return tokenize(self.vocabulary.text(path)) == list(path)


@cache
def row(last: int) -> Floats:
    """The law of the next token, the end last; of invalid pairs there are none."""
    if last < 0:
        return START
    found = np.random.default_rng(last).dirichlet(np.ones(END + 1))
    for token in range(END):
        if not ToySpelling().complete([last, token]):
            found[token] = 0.0
    return np.asarray(found / found.sum())


class ToyLaws:
    """`TokenLaws` of the toy, whose state is the last token. asked: how many laws were."""

    def __init__(self, leak: float = 0.0) -> None:
        self.asked, self.leak = 0, leak

    def extend(self, asked: Seq[tuple[Any, int]]) -> list[tuple[Any, Floats]]:
        self.asked += len(asked)
        return [(token, self.law(token)) for _, token in asked]

    def law(self, last: int) -> Floats:
        """With a leak the model gives every token some probability, valid or not."""
        return (1 - self.leak) * row(last) + self.leak / (END + 1)


def covers(tolerance: float = 0.0, leak: float = 0.0) -> ByteCovers:
    """The toy before its first byte."""
    laws = ToyLaws(leak)
    found = ByteCovers(ToySpelling(), laws, tolerance)
    found.begin([], -1, laws.law(-1))
    return found


def spelled(path: Seq[int]) -> float:
    """Probability of these tokens in a row."""
    found = 1.0
    for last, token in zip([-1, *path], path, strict=False):
        found *= float(row(last)[token])
    return found


def brute(text: bytes) -> float:
    """P(text is a prefix): the sum over all sequences of tokens that just reach its end."""

    def reaching(path: tuple[int, ...], rest: bytes) -> Iterator[float]:
        if not rest:
            yield spelled(path)
            return
        for token, word in enumerate(WORDS):
            if word.startswith(rest) or rest.startswith(word):
                yield from reaching((*path, token), rest[len(word) :])

    return sum(reaching((), text))


def texts(longest: int) -> list[bytes]:
    """All texts up to a length."""
    return [
        bytes(each) for size in range(longest + 1) for each in itertools.product(b"AB", repeat=size)
    ]
