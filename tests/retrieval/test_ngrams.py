"""N-gram probabilities for several drafts at once are those of counting place by place."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lengthwise.retrieval.datastore import SEPARATOR, Datastore
from lengthwise.retrieval.ngrams import LONGEST, WEIGHTS, NgramModels


def share(text: list[int], own: list[int], store: list[list[int]], token: int) -> float:
    """Weighted conditional frequencies, counted place by place."""
    whole = text + own
    found = 0.0
    for length in range(1, min(LONGEST, len(whole)) + 1):
        context = whole[-length:]
        # What a draft added is counted for it alone; the last token of all has no follower.
        follow = [
            part[at + length]
            for part in [whole, *store]
            for at in range(len(part) - length)
            if part[at : at + length] == context
        ]
        if follow:
            found += WEIGHTS[length - 1] * follow.count(token) / len(follow)
    return found


@pytest.mark.parametrize("length", [1, 2, 4, 60])
@pytest.mark.parametrize("stored", [False, True])
def test_ngram_probabilities_are_those_counted_by_hand(length: int, stored: bool) -> None:
    generator = random.Random(length)

    def draw(count: int) -> list[int]:
        return [generator.randrange(4) for _ in range(count)]

    text = draw(length)
    documents = [draw(n) for n in (50, 1, 3, 80)] if stored else []
    grams = NgramModels(text, Datastore.build(documents, 5) if stored else None)
    drafts: list[list[int]] = [[]]
    for _ in range(12):
        asked = np.array(generator.sample(range(5), 3))
        expected = [[share(text, own, documents, int(t)) for t in asked] for own in drafts]
        np.testing.assert_allclose(grams.probs(asked), expected, atol=1e-12)
        pairs = [(d, c) for d in range(len(drafts)) for c in range(3) if asked[c] != 4]
        chosen = generator.sample(pairs, min(3, len(pairs)))
        grams.take([d for d, _ in chosen], [c for _, c in chosen])
        drafts = [[*drafts[d], int(asked[c])] for d, c in chosen]


def test_what_ends_a_document_counts_as_followed_by_nothing() -> None:
    store = Datastore.build([[1, 2], [1, 2], [1, 3]], 5)
    assert store.tokens.tolist().count(SEPARATOR) == 3
    found = NgramModels([4, 2], store).probs(np.array([2, 3]))
    assert found.tolist() == [[0.0, 0.0]]
    shares = NgramModels([4, 1], store).probs(np.array([2, 3]))[0] / WEIGHTS[0]
    np.testing.assert_allclose(shares, [2 / 3, 1 / 3])
