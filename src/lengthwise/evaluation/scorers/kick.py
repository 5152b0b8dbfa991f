"""LLM-KICK's questions to compressed models.

Jaiswal and others, "Compressing LLMs: The Truth is Rarely Pure and Never Simple", ICLR 2024,
arXiv:2310.01382. Its question answering over evidence normalises as TriviaQA does (Joshi and
others, 2017, arXiv:1705.03551): marks and underscores become spaces.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence as Seq

from lengthwise.evaluation.scorers.matching import bag_f1

_MARKS = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))


def trivia_words(text: str) -> list[str]:
    """What is compared of a text: TriviaQA (arXiv:1705.03551).

    Args:
        text: any.
    """
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_MARKS)).split()


def relaxed_em(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """Whether answer or reply contains the other: LLM-KICK's in-context QA (arXiv:2310.01382).

    Args:
        reply: by a model; its first line alone.
        references: right answers, at least one.
        compat: the released rule, by which a reply without words is always right, and "or" is found
            in "York". Without, such a reply is wrong, and a reply must be whole words of the
            answer.

    Returns:
        0 or 1.
    """
    said = " ".join(trivia_words(reply))
    right = [" ".join(trivia_words(each)) for each in references]
    if compat:
        return float(any(each in said or said in each for each in right))
    return float(any(said and each and (each in said or _within(said, each)) for each in right))


def trivia_f1(reply: str, references: Seq[str]) -> float:
    """F1 of words after TriviaQA's normalisation: LLM-KICK (arXiv:2310.01382).

    Args:
        reply: by a model; its first line alone.
        references: right answers, at least one.

    Returns:
        0 to 1.
    """
    said = trivia_words(reply)
    return max(bag_f1(said, trivia_words(each), compat=True) for each in references)


def factoid(reply: str, references: Seq[str]) -> float:
    """Whether an answer stands in the reply, spaces and case aside: LLM-KICK (arXiv:2310.01382).

    The released script scores prompt and reply together, so that answers in a question count. Here
    the reply is scored alone.

    Args:
        reply: by a model, without its prompt.
        references: right answers.

    Returns:
        0 or 1.
    """
    said = _joined(reply)
    return float(any(_joined(each) in said for each in references))


def last_letter(reply: str, references: Seq[str]) -> float:
    """Whether the last character is the right letter: LLM-KICK's MMLU (arXiv:2310.01382).

    Args:
        reply: one generated token.
        references: right letters.

    Returns:
        0 or 1.
    """
    return float(reply[-1:] in references)


def _within(said: str, right: str) -> bool:
    return f" {said} " in f" {right} "


def _joined(text: str) -> str:
    return text.strip().replace(" ", "").lower()


__all__ = ["factoid", "last_letter", "relaxed_em", "trivia_f1", "trivia_words"]
