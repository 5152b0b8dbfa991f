"""How near texts are to a question by their vectors, of an encoder that lies in a folder."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import lru_cache

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


@lru_cache(maxsize=2)
def held_vectors(texts: tuple[str, ...], folder: str) -> Scores:
    """`vectors_of` texts about which more than one question is asked: they are not made anew.

    Args:
        texts: at least one; those of the last two calls are held.
        folder: as for `vectors_of`.

    Raises:
        RecipeError: where the folder holds none.
    """
    found = vectors_of(texts, folder)
    found.flags.writeable = False
    return found


def vector_scores(texts: Seq[str], question: str, folder: str) -> Scores:
    """Cosines of texts and a question, `[texts]`.

    Args:
        texts: at least one, whose vectors are held for the next question. The encoder reads of
            each as much as it takes.
        question: any.
        folder: of a transformers encoder with its tokenizer.

    Raises:
        RecipeError: where the folder holds none.
    """
    (asked,) = vectors_of([question], folder)
    scores: Scores = held_vectors(tuple(texts), folder) @ asked
    return scores


__all__ = ["held_vectors", "vector_scores", "vectors_of"]
