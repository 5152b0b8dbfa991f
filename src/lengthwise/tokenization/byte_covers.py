"""Exact laws of the next byte under a model of tokens.

"Exact Byte-Level Probabilities from Tokenized Language Models for FIM-Tasks and Model Ensembles"
(Phan and others, ICLR 2025, arXiv:2410.09303). A text may end within a token, so many sequences of
tokens begin with it. Its *covers* are those whose last token, and no other, reaches its end or goes
beyond it. They are disjoint, and so (Byte-Token Representation Lemma)

    P(x) = sum over covers t_1..t_k of x of P(t_1) P(t_2 | t_1) .. P(t_k | t_1..t_k-1)
    P(b | x) = P(xb) / P(x)

Covers of xb are those of x that go on with b, and the encodings that end with x followed by a token
that begins with b. So a text is a few encodings, each with its weight, the law of its next token,
and the slice of the vocabulary that begins with the bytes behind it.

Ours differs in four things. Tokens that the tokenizer would not write there (`valid_encodings`) are
taken out of each law and the rest is scaled, so that a real model's law of bytes is one. What no
byte follows, a special token, is the end. An encoding's law is asked only where its weight counts
for more than the tolerance. And an encoding that is valid in front of some text only, as line ends
in front of a word, is one too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.token_bytes import Floats, Span
from lengthwise.tokenization.valid_encodings import Spelling

# A share of the probability that may be left out.
TOLERANCE = 1e-6
# Candidates that are looked at together.
_BATCH = 512


class TokenLaws(Protocol):
    """A model as exact byte laws ask it."""

    def extend(self, asked: Seq[tuple[Any, int]]) -> list[tuple[Any, Floats]]:
        """The laws behind one more token.

        Args:
            asked: states of the model, each with the token that follows.

        Returns:
            The state behind each token, and the probabilities `[vocab]` of the next one.
        """
        ...


@dataclass(frozen=True)
class ByteLaw:
    """What follows a text.

    probs: of each next byte, float64 `[256]`. end: that none follows. Together they are 1.
    leak: share of the text's probability that went to tokens the tokenizer would not write.
    """

    probs: Floats
    end: float
    leak: float = 0.0

    def top(self, count: int) -> list[tuple[int | None, float]]:
        """The likeliest bytes, the end as None, each with its probability.

        Args:
            count: how many at most.
        """
        found: list[tuple[int | None, float]] = [(int(b), float(self.probs[b])) for b in range(256)]
        found.append((None, self.end))
        return sorted(found, key=lambda each: -each[1])[:count]


class Encoding:
    """Tokens that spell the beginning of a text, and the law of the next one.

    path: all tokens of the text. probs: of the tokens that are text, in the vocabulary's order;
    None until it is asked. end: of what is no text. state: of the model.
    """

    def __init__(self, path: tuple[int, ...], parent: Encoding | None = None) -> None:
        self.path, self.parent = path, parent
        self.probs: Floats | None = None
        self.end = 0.0
        self.state: Any = None
        self._checked: np.ndarray[Any, np.dtype[np.bool_]] | None = None

    def take(self, state: Any, law: Floats, spelling: Spelling, tolerance: float) -> None:
        """Takes what the model said, without what the tokenizer would not write.

        Args:
            state: of the model.
            law: probabilities `[vocab]` of the next token.
            spelling: of its tokenizer.
            tolerance: share of the law that need not be looked at.
        """
        vocabulary = spelling.vocabulary
        marks = vocabulary.marks[vocabulary.marks < len(law)]
        self.state, self.parent = state, None
        self.probs = law[vocabulary.ids].astype(np.float64)
        self._checked = np.zeros(len(self.probs), dtype=bool)
        self.end = float(law[marks].sum()) if spelling.complete(self.path) else 0.0
        self.check(vocabulary.all, spelling, tolerance)
        whole = float(self.probs.sum()) + self.end
        if whole > 0:
            self.probs /= whole
            self.end /= whole

    def check(self, span: Span, spelling: Spelling, tolerance: float) -> None:
        """Takes out of a slice the tokens that are not valid here, the likeliest first, until what
        was not looked at is less than a share of the rest.

        Args:
            span: the slice.
            spelling: of the tokenizer.
            tolerance: the share.
        """
        assert self.probs is not None and self._checked is not None
        low, high = span
        probs, checked = self.probs[low:high], self._checked[low:high]
        waiting = np.flatnonzero(~checked & (probs > 0))
        waiting = waiting[np.argsort(-probs[waiting], kind="stable")]
        left = np.cumsum(probs[waiting][::-1])[::-1] if len(waiting) else np.zeros(0)
        for start in range(0, len(waiting), _BATCH):
            if left[start] <= tolerance * float(probs.sum()):
                return
            part = waiting[start : start + _BATCH]
            ids = spelling.vocabulary.ids[low:high][part]
            valid = spelling.viable(self.path, [int(each) for each in ids])
            probs[part[~valid]] = 0.0
            checked[part] = True

    def prob(self, place: int, spelling: Spelling) -> float:
        """Probability of one token, looked at whatever it is worth.

        Args:
            place: of the token in the vocabulary's order.
            spelling: of the tokenizer.
        """
        assert self.probs is not None
        self.check((place, place + 1), spelling, 0.0)
        return float(self.probs[place])


@dataclass(frozen=True)
class Cover:
    """An encoding and the tokens that may follow it: those that begin with the bytes behind it.

    weight: probability of the encoding, as a share of the text's. depth: bytes of the text behind
    it. span: the tokens, none that end with the text.
    """

    encoding: Encoding
    weight: float
    depth: int
    span: Span

    def mass(self, spelling: Spelling) -> float:
        """Share of the text's probability that goes on by this encoding.

        Args:
            spelling: of the tokenizer.
        """
        probs = self.encoding.probs
        if probs is None:
            return self.weight
        low, high = spelling.vocabulary.longer(self.span, self.depth)
        end = 0.0 if self.depth else self.encoding.end
        return self.weight * (float(probs[low:high].sum()) + end)


class Settled(NamedTuple):
    """Where ordinary decoding may go on: an encoding, the bytes of the text behind it, and the
    tokens that begin with them."""

    encoding: Encoding
    depth: int
    span: Span


class ByteCovers:
    """A text under a model of tokens, as its covers. What is read is never read again.

    Args:
        spelling: of the tokenizer.
        laws: the model.
        tolerance: share of the probability that may be left out of every law.
    """

    def __init__(self, spelling: Spelling, laws: TokenLaws, tolerance: float = TOLERANCE) -> None:
        self.spelling, self.laws, self.tolerance = spelling, laws, tolerance
        self.covers: list[Cover] = []
        self._law: ByteLaw | None = None
        self._sums: Floats = np.zeros(256)
        self._last = b""

    def begin(self, path: Seq[int], state: Any, law: Floats) -> None:
        """Begins behind tokens that were read.

        Args:
            path: those of the text; what a model is told before it (a template) is none of them.
            state: of the model behind them.
            law: probabilities `[vocab]` of the next token.
        """
        first = Encoding(tuple(path))
        first.take(state, law, self.spelling, self.tolerance)
        self.covers, self._law = [Cover(first, 1.0, 0, self.spelling.vocabulary.all)], None

    def fork(self) -> ByteCovers:
        """The same text, to go on apart; what either asks of the model the other knows too."""
        new = ByteCovers(self.spelling, self.laws, self.tolerance)
        new.covers, new._law, new._sums = list(self.covers), self._law, self._sums
        new._last = self._last
        return new

    def law(self) -> ByteLaw:
        """What follows.

        Raises:
            LengthwiseError: where the text has no probability at all.
        """
        if self._law is None:
            self._ask(self.tolerance)
            sums, end = self._sum()
            whole = float(sums.sum()) + end
            if whole <= 0:
                raise LengthwiseError(
                    "the model gives these bytes no probability, so nothing follows them; give a "
                    "text that its tokenizer can write"
                )
            self._sums = sums
            self._law = ByteLaw(sums / whole, end / whole, 1.0 - whole)
        return self._law

    def feed(self, byte: int) -> float:
        """Reads one byte.

        Args:
            byte: 0 to 255.

        Returns:
            Its natural log-probability; minus infinity where it has none.
        """
        self.law()
        self._ask(self.tolerance**0.5, byte)
        prob, whole = float(self.law().probs[byte]), float(self._sums[byte])
        self._last = (self._last + bytes([byte]))[-self.spelling.vocabulary.longest :]
        if whole <= 0:
            self.covers, self._law = [], None
            return -math.inf
        found: list[Cover] = []
        for cover in self.covers:
            found += self._narrowed(replace(cover, weight=cover.weight / whole), byte)
        self.covers, self._law = found, None
        return math.log(prob)

    def settled(self) -> Settled | None:
        """The one encoding that nearly all of the probability goes by, if there is one.

        From there on text is drawn token by token, the next one out of those that begin with the
        bytes behind the encoding. What goes another way is within the tolerance.
        """
        self.law()
        shares = [cover.mass(self.spelling) for cover in self.covers]
        whole = sum(shares)
        for cover in self.covers:
            if cover.encoding.probs is None:
                continue
            path = cover.encoding.path
            going = sum(
                share
                for share, other in zip(shares, self.covers, strict=True)
                if other is cover or not other.depth and other.encoding.path[:-1] == path
            )
            if whole - going <= self.tolerance * whole:
                behind = self._last[len(self._last) - cover.depth :]
                span = self.spelling.vocabulary.within(behind)
                return Settled(cover.encoding, cover.depth, span)
        return None

    def _narrowed(self, cover: Cover, byte: int) -> list[Cover]:
        """What becomes of a cover behind one more byte: it goes on, and tokens end."""
        vocabulary, encoding = self.spelling.vocabulary, cover.encoding
        if encoding.probs is None:
            span = vocabulary.narrow(cover.span, cover.depth, byte)
            kept = replace(cover, depth=cover.depth + 1, span=span)
            return [kept] if span[0] < span[1] else []
        depth, span = cover.depth + 1, vocabulary.narrow(cover.span, cover.depth, byte)
        if span[0] == span[1]:
            return []
        encoding.check(span, self.spelling, self.tolerance)
        going = vocabulary.longer(span, depth)
        found = []
        for at in range(span[0], going[0]):
            prob = encoding.prob(at, self.spelling)
            if prob > 0:
                behind = Encoding((*encoding.path, int(vocabulary.ids[at])), encoding)
                found.append(Cover(behind, cover.weight * prob, 0, vocabulary.all))
        if going[0] < going[1]:
            found.append(replace(cover, depth=depth, span=going))
        return found

    def _ask(self, tolerance: float, byte: int | None = None) -> None:
        """Asks the laws of the encodings that count, those that can be together.

        With a byte they are those that count for what it is worth.
        """
        while True:
            wanted = [cover for cover in self.covers if self._counts(cover, tolerance, byte)]
            if not wanted:
                return
            asked = []
            for cover in wanted:
                parent = cover.encoding.parent
                assert parent is not None
                asked.append((parent.state, cover.encoding.path[-1]))
            for cover, (state, law) in zip(wanted, self.laws.extend(asked), strict=True):
                cover.encoding.take(state, law, self.spelling, self.tolerance)
            self.covers = [
                each
                for cover in self.covers
                for each in (self._replayed(cover) if cover in wanted else [cover])
            ]
            self._law = None

    def _counts(self, cover: Cover, tolerance: float, byte: int | None) -> bool:
        if cover.encoding.probs is not None:
            return False
        if byte is None:
            return cover.weight > tolerance * sum(each.mass(self.spelling) for each in self.covers)
        self.law()
        span = self.spelling.vocabulary.narrow(cover.span, cover.depth, byte)
        return span[0] < span[1] and cover.weight > tolerance * float(self._sums[byte])

    def _replayed(self, cover: Cover) -> list[Cover]:
        """A cover that was asked late, with the encodings that begin in the bytes behind it."""
        found = [replace(cover, depth=0, span=self.spelling.vocabulary.all)]
        for byte in self._last[len(self._last) - cover.depth :]:
            found = [each for before in found for each in self._narrowed(before, byte)]
        return found

    def _sum(self) -> tuple[Floats, float]:
        sums, end = np.zeros(256), 0.0
        for cover in self.covers:
            encoding = cover.encoding
            if encoding.probs is not None:
                by_byte = self.spelling.vocabulary.by_next_byte(
                    cover.span, cover.depth, encoding.probs
                )
                sums += cover.weight * by_byte
                end += 0.0 if cover.depth else cover.weight * encoding.end
        return sums, end


__all__ = [
    "TOLERANCE", "ByteCovers", "ByteLaw", "Cover", "Encoding", "Settled", "TokenLaws",
]  # fmt: skip
