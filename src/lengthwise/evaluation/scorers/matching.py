"""Whether a reply says the answer: contained in it, equal to it, or of the same words.

SQuAD's rules (Rajpurkar and others, 2016, arXiv:1606.05250): both texts lose case, ASCII
punctuation, the words a, an and the, and extra spaces. F1 is over the words that are left, as a
bag. Of several right answers the best one counts, but for `contains_all`.

RULER (Hsieh and others, 2024, arXiv:2404.06654) looks for the answers as they are written. Words
are compared by LongBench (Bai and others, 2023, arXiv:2308.14508), L-Eval, InfiniteBench and HELMET
(Yen and others, 2024, arXiv:2410.02694). M4LE (Kwan and others, 2023, arXiv:2310.19240) does both.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence as Seq

_MARKS = str.maketrans("", "", string.punctuation)
_WHOLE = ("yes", "no", "noanswer")


def plain_words(text: str) -> list[str]:
    """What is compared of a text: SQuAD (arXiv:1606.05250).

    Args:
        text: any.
    """
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_MARKS)).split()


def contains_all(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """The share of answers that stand in the reply, case aside: RULER (arXiv:2404.06654).

    Args:
        reply: by a model.
        references: the answers, at least one.
        compat: the published rule, by which 1234 stands in 12345. Without, an answer that begins or
            ends with a digit is no part of a longer number.

    Returns:
        0 to 1.
    """
    return sum(_stands(each, reply, compat) for each in references) / len(references)


def contains_any(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """Whether one of the answers stands in the reply, case aside.

    RULER's questions (arXiv:2404.06654) and M4LE's accuracy (arXiv:2310.19240).

    Args:
        reply: by a model.
        references: the answers, at least one.
        compat: as in `contains_all`.

    Returns:
        0 or 1.
    """
    return float(any(_stands(each, reply, compat) for each in references))


def equals(reply: str, references: Seq[str]) -> float:
    """Whether the reply is an answer, case and outer spaces aside: M4LE (arXiv:2310.19240).

    Args:
        reply: by a model.
        references: the answers.

    Returns:
        0 or 1.
    """
    return float(reply.strip().lower() in [each.strip().lower() for each in references])


def squad_em(reply: str, references: Seq[str]) -> float:
    """Whether the words of the reply are those of an answer: SQuAD (arXiv:1606.05250).

    Args:
        reply: by a model.
        references: right answers, at least one.

    Returns:
        0 or 1.
    """
    return float(any(plain_words(reply) == plain_words(each) for each in references))


def squad_f1(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """F1 of words: SQuAD (arXiv:1606.05250), as LongBench, L-Eval and InfiniteBench use it.

    Args:
        reply: by a model.
        references: right answers, at least one.
        compat: two texts without words score 0, as in those benchmarks. Without, they are equal
            and score 1, as in SQuAD 2.0 and M4LE.

    Returns:
        0 to 1.
    """
    said = plain_words(reply)
    return max(bag_f1(said, plain_words(each), compat=compat) for each in references)


def hotpot_f1(reply: str, references: Seq[str]) -> float:
    """F1 of words where yes, no and "no answer" count as a whole.

    HotpotQA (Yang and others, 2018, arXiv:1809.09600), as HELMET (arXiv:2410.02694) has it: where
    either text is one of the three, the other must be the same.

    Args:
        reply: by a model.
        references: right answers, at least one.

    Returns:
        0 to 1.
    """
    return max(_hotpot(plain_words(reply), plain_words(each)) for each in references)


def sub_em(reply: str, references: Seq[str], *, whole_words: bool = False) -> float:
    """Whether the words of an answer stand in the reply: HELMET (arXiv:2410.02694).

    Args:
        reply: by a model.
        references: right answers, at least one.
        whole_words: "no" does not stand in "nothing". The paper's rule finds it there.

    Returns:
        0 or 1.
    """
    edge = " " if whole_words else ""
    said = f"{edge}{' '.join(plain_words(reply))}{edge}"
    return float(any(f"{edge}{' '.join(plain_words(each))}{edge}" in said for each in references))


def bag_f1(said: Seq[str], right: Seq[str], *, compat: bool = False) -> float:
    """F1 of two bags of words.

    Args:
        said: words of a reply.
        right: words of an answer.
        compat: two empty bags score 0; without, they are equal and score 1.

    Returns:
        0 to 1.
    """
    if not said or not right:
        return 0.0 if compat else float(len(said) == len(right))
    common = sum((Counter(said) & Counter(right)).values())
    return 2 * common / (len(said) + len(right))


def _hotpot(said: list[str], right: list[str]) -> float:
    whole = {" ".join(said), " ".join(right)} & set(_WHOLE)
    return bag_f1(said, right, compat=True) if not whole or said == right else 0.0


def _stands(answer: str, reply: str, compat: bool) -> bool:
    answer, reply = answer.lower(), reply.lower()
    if compat:
        return answer in reply
    before = r"(?<!\d)" if answer[:1].isdigit() else ""
    after = r"(?!\d)" if answer[-1:].isdigit() else ""
    return re.search(f"{before}{re.escape(answer)}{after}", reply) is not None


__all__ = [
    "bag_f1", "contains_all", "contains_any", "equals", "hotpot_f1", "plain_words", "squad_em",
    "squad_f1", "sub_em",
]  # fmt: skip
