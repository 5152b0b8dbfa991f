"""ROUGE by two packages, which differ: the benchmarks' figures come from either.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.

    rouge_l  the package `rouge`, each word once: LongBench (2023, arXiv:2308.14508) and M4LE
             (2023, arXiv:2310.19240)
    rouge    the package `rouge-score`: L-Eval (2023, arXiv:2307.11088), InfiniteBench (2024,
             arXiv:2402.13718) and HELMET (2024, arXiv:2410.02694)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence as Seq
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers._libraries import chinese_words, library

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
Mode = Literal["f", "precision", "recall"]
_SHORT = {"f": "f", "precision": "p", "recall": "r"}
_LONG = {"f": "fmeasure", "precision": "precision", "recall": "recall"}


def rouge_l(
    reply: str,
    references: Seq[str],
    *,
    mode: Mode = "f",
    chinese: bool = False,
    repeats: bool = False,
    compat: bool = False,
) -> float:
    """ROUGE-L by the package `rouge`, which counts each word of a text once.

    F for LongBench (arXiv:2308.14508), recall for M4LE (arXiv:2310.19240). Recall alone rewards
    long replies.

    Args:
        reply: by a model; one without words scores 0.
        references: right texts, at least one; the best counts.
        mode: "f", "precision" or "recall".
        chinese: both texts are cut into words by jieba.
        repeats: count every word as often as it comes, as M4LE's Chinese tasks do by the package
            rouge-chinese. That one also counts a blank line as a word; this does not.
        compat: a sentence of about a thousand words scores 0, because the package recurses once a
            word. Without, the limit of recursion is raised for it.

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: where `rouge`, jieba or rapidfuzz is missing, or for another mode.
    """
    stat = _stat(mode, _SHORT)
    texts = [" ".join(chinese_words(each)) if chinese else each for each in (reply, *references)]
    said, *right = texts
    if repeats:
        return max(_all_words(said.split(), each.split(), mode) for each in right)
    return max(_package_rouge(said, each, stat, compat) for each in right)


def rouge(
    reply: str,
    references: Seq[str],
    *,
    kind: str = "rougeL",
    mode: Mode = "f",
    stem: bool = False,
    sentences: bool = False,
) -> float:
    """ROUGE by the package `rouge-score`.

    L-Eval (arXiv:2307.11088): rouge1, rouge2 and rougeL, with sentences on lines of their own for
    rougeLsum. InfiniteBench (arXiv:2402.13718): rougeLsum. HELMET (arXiv:2410.02694): rougeL with
    stems.

    Args:
        reply: by a model.
        references: right texts, at least one; the best counts.
        kind: "rouge1", "rouge2", "rougeL" or "rougeLsum".
        mode: "f", "precision" or "recall".
        stem: compare stems by Porter.
        sentences: rougeLsum finds sentences itself; without, they are lines.

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: where rouge-score is missing, or for another kind or mode.
    """
    if kind not in KINDS:
        raise LengthwiseError(f"ROUGE {kind!r}: allowed are {', '.join(KINDS)}")
    stat = _stat(mode, _LONG)
    scorer = _scorer(kind, stem, sentences)
    return max(float(getattr(scorer.score(each, reply)[kind], stat)) for each in references)


def _package_rouge(said: str, right: str, stat: str, compat: bool) -> float:
    scorer = library("rouge").Rouge(metrics=["rouge-l"])
    try:
        with _recursion(0 if compat else len(said.split()) + len(right.split())):
            return float(scorer.get_scores(said, right)[0]["rouge-l"][stat])
    except (ValueError, RecursionError, ZeroDivisionError):
        return 0.0  # No words, or in `compat` too many.


def _all_words(said: Seq[str], right: Seq[str], mode: str) -> float:
    if not said or not right:
        return 0.0
    common = int(library("rapidfuzz.distance").LCSseq.similarity(said, right))
    wanted = {"precision": len(said), "recall": len(right), "f": (len(said) + len(right)) / 2}
    return common / wanted[mode]


@cache
def _scorer(kind: str, stem: bool, sentences: bool) -> Any:
    module = library("rouge_score.rouge_scorer")
    return module.RougeScorer([kind], use_stemmer=stem, split_summaries=sentences)


def _stat(mode: str, names: dict[str, str]) -> str:
    if mode not in names:
        raise LengthwiseError(f"mode {mode!r}: allowed are {', '.join(names)}")
    return names[mode]


@contextmanager
def _recursion(words: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, before + words))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


__all__ = ["KINDS", "rouge", "rouge_l"]
