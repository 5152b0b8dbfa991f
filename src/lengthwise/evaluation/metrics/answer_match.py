"""Exact match and token F1 of an answer, as SQuAD's evaluation has them.

Rajpurkar and others, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016,
arXiv:1606.05250. Both texts lose case, ASCII punctuation, the words a, an and the, and extra
spaces. F1 is over the words that are left, as a bag. Of several right answers the best one counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence as Seq

_MARKS = str.maketrans("", "", string.punctuation)


def plain_words(text: str) -> list[str]:
    """What is compared of a text.

    Args:
        text: any.
    """
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_MARKS)).split()


def exact_match(said: str, answers: Seq[str]) -> float:
    """1 where the answer is one of the right ones, else 0.

    Args:
        said: by a model.
        answers: right ones, at least one.
    """
    return float(any(plain_words(said) == plain_words(answer) for answer in answers))


def token_f1(said: str, answers: Seq[str]) -> float:
    """The harmonic mean of the share of said words that are right and of right ones that are said.

    Args:
        said: by a model.
        answers: right ones, at least one.
    """
    return max(_f1(plain_words(said), plain_words(answer)) for answer in answers)


def _f1(said: list[str], right: list[str]) -> float:
    if not said or not right:
        return float(said == right)
    common = sum((Counter(said) & Counter(right)).values())
    return 2 * common / (len(said) + len(right))


__all__ = ["exact_match", "plain_words", "token_f1"]
