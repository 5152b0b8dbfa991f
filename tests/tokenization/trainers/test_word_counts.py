"""Counting pieces: as a Counter does, in tables that grow."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np

from lengthwise.tokenization.trainers.merges import BYTES
from lengthwise.tokenization.trainers.word_counts import WordCounts


def test_counts_are_a_counters_over_many_calls() -> None:
    random, counts, wanted = Random(0), WordCounts(), Counter[bytes]()
    for number in range(12):
        words = [random.randbytes(random.randint(1, 4)) for _ in range(100 * number)]
        wanted.update(words)
        ends = np.cumsum([len(word) for word in words], dtype=np.int32)
        counts.add(np.frombuffer(b"".join(words), np.uint8), ends)
    assert counts.counter() == wanted
    assert counts.number == len(wanted)


def test_words_are_laid_out_with_their_counts() -> None:
    counts = WordCounts()
    data = np.frombuffer(b"abcabcx" + b"yz", np.uint8)
    counts.add(data, np.array([3, 6, 7, 9], np.int32))
    tokens, weights = counts.laid_out()
    words = [bytes(BYTES[t] for t in part) for part in np.split(tokens, [1, 4, 5, 7])[1::2]]
    assert words == [b"abc", b"yz"]
    assert tokens[[0, 4, 7]].tolist() == [-1, -1, -1]
    assert weights.tolist() == [0, 2, 2, 2, 0, 1, 1, 0]
