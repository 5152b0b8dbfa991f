"""The passages of a prompt nearest to its question: a short context that stands for a long one.

The prompt is cut in chunks of tokens. Each is scored against the prompt's end, where the question
stands, and the best are kept in the order of the document. `bm25` needs nothing but the token ids
(Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009):

    score(c) = sum over the question's tokens and pairs of tokens t of
               (place of t / length of the question) *
               log(1 + (N - n_t + .5) / (n_t + .5)) * f (k + 1) / (f + k (1 - b + b |c| / mean |c|))

with f occurrences of t in chunk c, and n_t of N chunks that have it. Scores are divided by the best
one, so that they end at 1 as the cosine of two embeddings does. `Encoder` gives such cosines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence as Seq
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lengthwise._utils.messages import first_line
from lengthwise._utils.text_encoder import TextEncoder
from lengthwise.errors import RecipeError

# BM25's saturation of a token's count, and how much the length of a chunk counts against it.
K1, B = 1.2, 0.75

Scores = NDArray[np.float64]
# Scores `[chunks]` of token ids, by question; see `lexical` and `Encoder`.
Scoring = Callable[[Seq[Seq[int]], Seq[int]], Scores]


def retrieve(
    tokens: Seq[int], question: Seq[int], chunk: int, budget: int, threshold: float, score: Scoring
) -> list[int]:
    """The chunks of tokens nearest to a question, in the order of the text.

    At most `budget` tokens: the best chunk always, cut where it must be, then those that fit and
    whose score reaches the threshold. Chunks overlap by half, so that no passage is cut in two.
    """
    half = max(1, chunk // 2)
    starts = range(0, max(1, len(tokens) - half), half)
    chunks = [tokens[at : at + chunk] for at in starts]
    if not tokens:
        return []
    scores = score(chunks, question)
    kept = np.zeros(len(tokens), bool)
    for number in (-scores).argsort(kind="stable").tolist():
        if kept.any() and scores[number] < threshold:
            break
        part = kept[starts[number] : starts[number] + chunk]
        if not kept.any():
            part[:budget] = True
        elif kept.sum() + (~part).sum() <= budget:
            part[:] = True
    return [tokens[place] for place in kept.nonzero()[0].tolist()]


def bm25(chunks: Seq[Seq[int]], question: Seq[int]) -> Scores:
    """BM25 over tokens and pairs of tokens, as a share of the best; zeros where none is shared.

    The later a term stands in the question the more it weighs, for what comes first there may be
    the end of the text before it.
    """
    terms: dict[Any, int] = {}
    places = [terms.setdefault(term, len(terms)) for term in _terms(question)]
    late = np.zeros(len(terms))
    late[places] = np.tile(np.arange(1, len(question) + 1), 2)[: len(places)] / len(question)
    counts = np.zeros((len(chunks), len(terms)))
    for row, chunk in enumerate(chunks):
        for term in _terms(chunk):
            place = terms.get(term)
            if place is not None:
                counts[row, place] += 1
    sizes = np.array([len(chunk) for chunk in chunks], float)
    having = (counts > 0).sum(0)
    weights = late * np.log(1 + (len(chunks) - having + 0.5) / (having + 0.5))
    held = K1 * (1 - B + B * sizes / sizes.mean())[:, None]
    scores: Scores = (weights * counts * (K1 + 1) / (counts + held)).sum(1)
    return scores / scores.max() if scores.max() > 0 else scores


def _terms(tokens: Seq[int]) -> list[Any]:
    """Tokens, which may be parts of words, then neighbours, which may be words."""
    return [*tokens, *zip(tokens, tokens[1:], strict=False)]


class Encoder:
    """Cosines of embeddings by a transformers encoder. Make it with `encoder`."""

    def __init__(self, folder: str) -> None:
        try:
            self.encoder = TextEncoder(os.path.expanduser(folder))
        except Exception as error:  # Whatever transformers raises for what is no encoder.
            raise RecipeError(
                f"encoder={folder}: this is no folder of an encoder ({first_line(error)}); give "
                "one, or leave it out to compare words"
            ) from error

    def embed(self, texts: Seq[str], batch: int = 16) -> torch.Tensor:
        """Unit vectors `[texts, hidden]`. Texts of about one length are read together."""
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        found = [
            self.encoder.embed([texts[n] for n in order[at : at + batch]])
            for at in range(0, len(order), batch)
        ]
        vectors = torch.cat(found)[torch.tensor(order).argsort()]
        return torch.nn.functional.normalize(vectors, dim=-1)

    def scoring(self, decode: Callable[[Seq[int]], str]) -> Scoring:
        """Scores token ids by what they say."""

        def score(chunks: Seq[Seq[int]], question: Seq[int]) -> Scores:
            vectors = self.embed([decode(question), *(decode(chunk) for chunk in chunks)])
            cosines: Scores = (vectors[1:] @ vectors[0]).double().numpy()
            return cosines

        return score


@lru_cache(maxsize=1)
def encoder(folder: str) -> Encoder:
    """The encoder in a folder, loaded once per process; raises RecipeError where there is none."""
    return Encoder(folder)


__all__ = ["Encoder", "Scores", "Scoring", "bm25", "encoder", "retrieve"]
