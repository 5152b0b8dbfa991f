"""Counting words of RULER: common words in a list (cwe), frequent ones in a coded text (fwe).

cwe: a numbered list in which 10 words stand often and all others seldom; the 10 are asked for. An
example that is solved stands before. Below 4,096 tokens both are smaller.

    from 4,096 tokens   30 times and 3 times    example: 40 words, 10 times and 3 times
    below                6 times and 1 time     example: 20 words,  3 times and 1 time

fwe: N words of six random letters, of which the k-th stands floor(N k^-a / zeta(a)) times, of a
fiftieth of the length in kinds. The most frequent is dots, and the three that follow are asked for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence as Seq
from string import ascii_lowercase

from lengthwise.evaluation.tasks.benchmark import Sample, Wanted, largest, shuffled
from lengthwise.evaluation.tasks.generated._shared.words import vocabulary

CWE_MOST, FWE_MOST = 120, 50
COMMON = 10
_SHORT = 4096
_LIST = "Below is a numbered list of words, in which some stand more often than others.\n"
_OFTEN = f"Which {COMMON} words stand most often in the list above?"
_OFTEN_STUB = f"The {COMMON} words that stand most often in the list are:"
_CODED = "Below is a coded text. Keep in mind how often each of its words stands in it.\n"
_FREQUENT = (
    "Leave the dots out. Which three coded words stand most often in the text above? Name them "
    "alone."
)
_FREQUENT_STUB = "The three coded words that stand most often in the text are:"


def common_words(wanted: Wanted) -> Iterator[Sample]:
    """Samples of cwe.

    Args:
        wanted: how long and how many.
    """
    short = wanted.length < _SHORT
    often, seldom = (6, 1) if short else (30, 3)
    example_words, example_often, example_seldom = (20, 3, 1) if short else (40, 10, 3)
    for draw in wanted.draws("ruler/cwe"):
        words = shuffled(vocabulary(), draw)
        shown, rest = words[:example_words], words[example_words:]
        seed = draw.getrandbits(64)
        listed = _numbered(_repeated(shown, example_often, example_seldom, seed))
        answer = " ".join(f"{n}. {word}" for n, word in enumerate(shown[:COMMON], 1))
        solved = f"{_LIST}{listed}\n\n{_OFTEN}\n{_OFTEN_STUB} {answer}\n\n"

        def build(
            units: int, rest: Seq[str] = rest, seed: int = seed, solved: str = solved
        ) -> Sample:
            items = _repeated(_more(rest, COMMON + units), often, seldom, seed)
            text = f"{solved}{_LIST}{_numbered(items)}"
            return Sample(text, _OFTEN, tuple(rest[:COMMON]), CWE_MOST, _OFTEN_STUB)

        yield largest(wanted, build)


def _more(words: Seq[str], count: int) -> list[str]:
    """So many words; where there are not enough, two of them are one."""
    found = list(words[:count])
    for n in range(count - len(found)):
        step, at = divmod(n, len(words))
        found.append(words[at] + words[(at + step + 1) % len(words)])
    return found


def _repeated(words: Seq[str], often: int, seldom: int, seed: int) -> list[str]:
    """The common words, which are first, often and the others seldom, in a drawn order."""
    listed = [*list(words[:COMMON]) * often, *list(words[COMMON:]) * seldom]
    return shuffled(listed, random.Random(seed))


def _numbered(words: Seq[str]) -> str:
    return " ".join(f"{n}. {word}" for n, word in enumerate(words, 1))


def frequent_words(wanted: Wanted, exponent: float) -> Iterator[Sample]:
    """Samples of fwe.

    Args:
        wanted: how long and how many.
        exponent: of Zipf's law, above 1.
    """
    # From so many words on the 4th stands more often than the 5th, whatever is rounded.
    least = math.ceil(zeta(exponent) / (4**-exponent - 5**-exponent))
    for draw in wanted.draws("ruler/fwe"):
        types = max(8, wanted.length // 50)
        names: dict[str, None] = {}
        while len(names) < types - 1:
            names["".join(draw.choices(ascii_lowercase, k=6))] = None
        ranked = ["...", *names]
        seed = draw.getrandbits(64)

        def build(units: int, ranked: Seq[str] = ranked, seed: int = seed) -> Sample:
            counts = zipf(units, len(ranked), exponent)
            said = [word for word, n in zip(ranked, counts, strict=False) for _ in range(n)]
            text = _CODED + " ".join(shuffled(said, random.Random(seed)))
            return Sample(text, _FREQUENT, tuple(ranked[1:4]), FWE_MOST, _FREQUENT_STUB)

        yield largest(wanted, build, least)


def zipf(words: int, types: int, exponent: float) -> list[int]:
    """How often each type stands among so many words, those that stand at least once.

    Args:
        words: N.
        types: at most as many ranks.
        exponent: a, above 1.
    """
    counts = [math.floor(words * k**-exponent / zeta(exponent)) for k in range(1, types + 1)]
    return [each for each in counts if each]


def zeta(exponent: float) -> float:
    """Riemann's zeta function: the first terms, and the integral of the rest by Euler-Maclaurin.

    Args:
        exponent: above 1.
    """
    n = 20
    head = math.fsum(math.pow(k, -exponent) for k in range(1, n))
    tail = math.pow(n, 1 - exponent) / (exponent - 1) + math.pow(n, -exponent) / 2
    slope = exponent * math.pow(n, -exponent - 1)
    bend = exponent * (exponent + 1) * (exponent + 2) * math.pow(n, -exponent - 3)
    return head + tail + slope / 12 - bend / 720


__all__ = ["common_words", "frequent_words", "zeta", "zipf"]
