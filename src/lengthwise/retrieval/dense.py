"""How near texts are to a question by their vectors, of an encoder that lies in a folder."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lengthwise.retrieval.lexical import Scores
from lengthwise.retrieval.passages import encoder


def vectors_of(texts: Seq[str], folder: str) -> Scores:
    """Unit vectors of texts, `[texts, dim]`.

    Args:
        texts: at least one. The encoder reads of each as much as it takes.
        folder: of a transformers encoder with its tokenizer.

    Raises:
        RecipeError: where the folder holds none.
    """
    found: Scores = encoder(folder).embed(texts).numpy()
    return found


def vector_scores(texts: Seq[str], question: str, folder: str) -> Scores:
    """Cosines of texts and a question, `[texts]`.

    Args:
        texts: at least one. The encoder reads of each as much as it takes.
        question: any.
        folder: of a transformers encoder with its tokenizer.

    Raises:
        RecipeError: where the folder holds none.
    """
    vectors = vectors_of([question, *texts], folder)
    scores: Scores = vectors[1:] @ vectors[0]
    return scores


__all__ = ["vector_scores", "vectors_of"]
