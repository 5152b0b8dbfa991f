"""How near a text comes to the length that was asked for: the length score of LongBench-Write.

Bai et al., "LongWriter: Unleashing 10,000+ Word Generation from Long Context LLMs", ICLR 2025, \
arXiv:2408.07055

With x words asked for and y written,

    S_l = 100 max(0, 1 - (y / x - 1) / 3)    where y > x
    S_l = 100 max(0, 1 - (x / y - 1) / 2)    otherwise

so four times as many words give 0, and a third of them. Nothing written gives 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq

from lengthwise.errors import LengthwiseError

_BENCHMARK = re.compile("[\u4e00-\u9fff]|\\b[a-zA-Z]+\\b")


def length_score(asked: int, written: int) -> float:
    """The score, 0 to 100.

    Args:
        asked: words, at least 1.
        written: words, at least 0.

    Raises:
        LengthwiseError: for numbers that no text has.
    """
    if asked < 1 or written < 0:
        raise LengthwiseError(
            f"a text of {written} words where {asked} were asked for: give 1 or more, and 0 or more"
        )
    if written > asked:
        return 100 * max(0.0, 1 - (written / asked - 1) / 3)
    return 100 * max(0.0, 1 - (asked / written - 1) / 2) if written else 0.0


def benchmark_words(text: str) -> int:
    """Words as LongBench-Write counts them: runs of Latin letters, and Chinese characters.

    Args:
        text: any. "don't" are two words there, and numbers none.
    """
    return len(_BENCHMARK.findall(text))


def requested_length(reply: str, references: Seq[str]) -> float:
    """The length score of a reply, as a share: LongBench-Write (arXiv:2408.07055).

    Args:
        reply: by a model.
        references: words that were asked for, such as "1000"; the best counts.

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: for a reference that is no number of words.
    """
    wrong = [each for each in references if not each.isdecimal()]
    if wrong:
        raise LengthwiseError(f"length {wrong[0]!r}: give a number of words")
    written = benchmark_words(reply)
    return max(length_score(int(each), written) for each in references) / 100


__all__ = ["benchmark_words", "length_score", "requested_length"]
