"""BLEU in the variants that papers mean by it, and chrF.

    moses  corpus BLEU-4 of words between spaces, case kept, no smoothing
    norm   words and marks apart, lower case, one added to counts of n > 1, mean over texts
    cc     NLTK's sentence BLEU with smoothing method 5, words between spaces, mean over texts
    sacre  sacrebleu's own: tokens of mteval 13a, exponential smoothing

The first three are named so by Tao and others, "On the Evaluation of Commit Message Generation
Models: An Experimental Study", 2021, arXiv:2107.05373, who find that `norm` agrees best with
people. Post, 2018, arXiv:1804.08771: sacrebleu. Popovic, 2015: chrF.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence as Seq

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers._libraries import library

ORDERS = 4
# What stands in for the logarithm's argument at a count of 0, as in the released B-Norm.
_TINY = sys.float_info.min


def bleu(reply: str, references: Seq[str], *, variant: str = "norm") -> float:
    """BLEU of one text: B-Norm or B-CC (arXiv:2107.05373), or sacrebleu's sentence BLEU.

    Args:
        reply: by a model.
        references: right texts, at least one.
        variant: "norm", "cc" or "sacre". "moses" is of a corpus alone: `corpus_bleu`.

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: for another variant, or where nltk or sacrebleu is missing.
    """
    if variant not in _SENTENCE:
        aside = "; moses is never averaged: take corpus_bleu" if variant == "moses" else ""
        raise LengthwiseError(f"BLEU {variant!r}: allowed are {', '.join(_SENTENCE)}{aside}")
    return _SENTENCE[variant](reply, references)


def corpus_bleu(
    replies: Seq[str],
    references: Seq[Seq[str]],
    *,
    variant: str = "moses",
    tokens: str = "13a",
    smooth: str = "exp",
) -> float:
    """BLEU of many texts: B-Moses, the means B-Norm and B-CC (arXiv:2107.05373), or sacrebleu's.

    Args:
        replies: by a model.
        references: right texts of each reply, at least one.
        variant: "moses", "norm", "cc" or "sacre".
        tokens: of "sacre": its tokenizer, such as "13a" or "zh".
        smooth: of "sacre": "exp", "floor", "add-k" or "none". M4LE (arXiv:2310.19240) has "none".

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: for another variant, no texts, or where nltk or sacrebleu is missing.
    """
    if not replies or len(replies) != len(references):
        raise LengthwiseError(f"{len(replies)} replies for {len(references)} lists of references")
    if variant == "moses":
        return _corpus(replies, references, "none", "none")
    if variant == "sacre":
        return _corpus(replies, references, tokens, smooth)
    scores = [bleu(*pair, variant=variant) for pair in zip(replies, references, strict=True)]
    return sum(scores) / len(scores)


def chrf(reply: str, references: Seq[str], *, words: int = 0) -> float:
    """F2 of character n-grams up to 6: sacrebleu's sentence chrF (Popovic, 2015).

    Args:
        reply: by a model.
        references: right texts, at least one; the best counts.
        words: longest word n-gram that joins; 2 is chrF++.

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: where sacrebleu is missing.
    """
    scorer = library("sacrebleu.metrics").CHRF(word_order=words)
    return float(scorer.sentence_score(reply, list(references)).score) / 100


def norm_words(text: str) -> list[str]:
    """Words of B-Norm (arXiv:2107.05373): lower case, each mark and underscore a word of its own.

    Args:
        text: any.
    """
    return re.findall(r"[^\W_]+|_|[^\s\w]", text.strip().lower())


def _norm(reply: str, references: Seq[str]) -> float:
    said, right = norm_words(reply), [norm_words(each) for each in references]
    most: Counter[tuple[str, ...]] = Counter()
    for each in right:
        most |= _ngrams(each)
    hits = _ngrams(said) & most
    logs = 0.0
    for n in range(1, ORDERS + 1):
        correct = sum(count for ngram, count in hits.items() if len(ngram) == n)
        added = int(n > 1)
        guessed = max(len(said) - n + 1, 0)
        logs += math.log(correct + added + _TINY) - math.log(guessed + added + _TINY)
    brevity = min(0.0, 1 - (min(map(len, right)) + 1) / (len(said) + 1))
    return math.exp(logs / ORDERS + brevity)


def _ngrams(words: Seq[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[start : start + n])
        for n in range(1, ORDERS + 1)
        for start in range(len(words) - n + 1)
    )


def _cc(reply: str, references: Seq[str]) -> float:
    module = library("nltk.translate.bleu_score")
    if not reply.split():
        return 0.0
    smoothing = module.SmoothingFunction().method5
    right = [each.split() for each in references]
    return float(module.sentence_bleu(right, reply.split(), smoothing_function=smoothing))


def _sacre(reply: str, references: Seq[str]) -> float:
    scorer = library("sacrebleu.metrics").BLEU(effective_order=True)
    return float(scorer.sentence_score(reply, list(references)).score) / 100


def _corpus(replies: Seq[str], references: Seq[Seq[str]], tokens: str, smooth: str) -> float:
    scorer = library("sacrebleu.metrics").BLEU(tokenize=tokens, smooth_method=smooth, force=True)
    most = max(map(len, references))
    # sacrebleu wants the first reference of every text, then the second: None where there is none.
    columns = [[each[n] if n < len(each) else None for each in references] for n in range(most)]
    return float(scorer.corpus_score(list(replies), columns).score) / 100


_SENTENCE: dict[str, Callable[[str, Seq[str]], float]] = {
    "norm": _norm, "cc": _cc, "sacre": _sacre,
}  # fmt: skip


__all__ = ["bleu", "chrf", "corpus_bleu", "norm_words"]
