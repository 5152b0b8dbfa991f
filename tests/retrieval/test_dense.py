"""Vectors of passages: cosines as they are, and made once for several questions."""

from __future__ import annotations

import numpy as np
import pytest

from lengthwise.methods.prompting._shared.encoders import example_encoder
from lengthwise.retrieval import dense

TEXTS = ["the red door", "a cup of tea", "doors are red"]


def test_scores_are_cosines_with_the_question() -> None:
    folder = example_encoder()
    vectors = dense.vectors_of(["red door", *TEXTS], folder)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    found = dense.vector_scores(TEXTS, "red door", folder)
    assert np.allclose(found, vectors[1:] @ vectors[0], atol=1e-5)


def test_passages_are_read_once_for_several_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = example_encoder(), []
    plain = dense.vectors_of
    monkeypatch.setattr(
        dense, "vectors_of", lambda texts, where: seen.append(len(texts)) or plain(texts, where)
    )
    dense.held_vectors.cache_clear()
    first = dense.vector_scores(TEXTS, "red door", folder)
    second = dense.vector_scores(TEXTS, "tea", folder)
    assert sorted(seen) == [1, 1, 3] and not np.allclose(first, second)
    dense.vector_scores(TEXTS[:2], "tea", folder)
    assert sorted(seen) == [1, 1, 1, 2, 3]
