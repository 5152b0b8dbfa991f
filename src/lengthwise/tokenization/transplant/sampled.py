"""Tokenizers drawn from recent texts: a Unigram vocabulary of frequent long pieces, with noise.

ZeTT (arXiv 2405.07883) trains its network on one such tokenizer a step. Of the texts in a queue,
all strings within a word of up to 16 bytes are counted. A string's score is its count times its
length, as a share of all. Noise is added, whose deviation is itself drawn, log-normal with mean
1e-5 and sigma 4. The highest are kept, with all single bytes. Without noise each step would draw
nearly the same vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

_LETTERS = bytes_to_unicode()
_BYTES = {letter: byte for byte, letter in _LETTERS.items()}


@dataclass(frozen=True)
class Sampling:
    """How tokenizers are drawn; the paper's values but for what `queue` and `vocabulary` say.

    Attributes:
        vocabulary: tokens of one (the paper's: 32,768).
        queue: texts that it is drawn from (the paper's: batches of 2,048).
        longest: bytes of a token.
        noise: mean of the log-normal deviation.
        sigma: its own deviation.
    """

    vocabulary: int = 8192
    queue: int = 512
    longest: int = 16
    noise: float = 1e-5
    sigma: float = 4.0


class Sampler:
    """Draws tokenizers of the texts that it was shown last.

    Args:
        how: of what sizes.
        seed: of the noise.
    """

    def __init__(self, how: Sampling, seed: int) -> None:
        self.how, self._noise = how, np.random.default_rng(seed)
        self._queue: deque[Counter[str]] = deque()
        self._counts: Counter[str] = Counter()
        self._cut = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def show(self, texts: Seq[str]) -> None:
        """Puts texts into the queue; those before the last ones leave it.

        Args:
            texts: any.
        """
        for text in texts:
            words = Counter(word for word, _ in self._cut.pre_tokenize_str(text))
            self._queue.append(words)
            self._counts.update(words)
            if len(self._queue) > self.how.queue:
                self._counts.subtract(self._queue.popleft())

    def draw(self) -> Tokenizer:
        """A byte-level Unigram tokenizer, without special tokens."""
        counts: Counter[str] = Counter()
        for word, times in self._counts.items():
            if times > 0:
                counts.update(dict.fromkeys(_parts(word, self.how.longest), times))
        words = sorted(counts)
        scores = np.array([counts[word] * len(word) for word in words], dtype=np.float64)
        scores /= max(scores.sum(), 1.0)
        deviation = self._noise.lognormal(math.log(self.how.noise), self.how.sigma)
        scores += self._noise.normal(0.0, deviation, len(scores))
        best = np.argsort(-scores, kind="stable")[: self.how.vocabulary - len(_LETTERS)]
        kept = [(words[n], max(float(scores[n]), 1e-12)) for n in best]
        return byte_unigram(kept)


def byte_unigram(words: Seq[tuple[str, float]]) -> Tokenizer:
    """A byte-level Unigram tokenizer of words with scores; single bytes are added.

    Args:
        words: in GPT-2's letters, with a score above 0 each.
    """
    known = {word for word, _ in words}
    least = min((score for _, score in words), default=1.0)
    single = [(letter, least) for letter in _LETTERS.values() if letter not in known]
    pieces = [*words, *single]
    whole = sum(score for _, score in pieces)
    made = Tokenizer(models.Unigram([(word, math.log(s / whole)) for word, s in pieces]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def spelled(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of each token of a byte-level tokenizer without special ones.

    Args:
        tokenizer: of `Sampler.draw`.
    """
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [bytes(_BYTES[letter] for letter in word) for word, _ in words]


def _parts(word: str, longest: int) -> chain[str]:
    size = len(word)
    return chain.from_iterable(
        (word[at:stop] for stop in range(at + 1, min(size, at + longest) + 1)) for at in range(size)
    )


__all__ = ["Sampler", "Sampling", "byte_unigram", "spelled"]
