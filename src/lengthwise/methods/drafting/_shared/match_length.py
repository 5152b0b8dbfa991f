"""How far a copied token is trusted by the length of the match it continues."""

from __future__ import annotations


def bucket_of(length: int) -> int:
    """1, 2, 3, then two buckets an octave, up to 32 tokens and more."""
    if length <= 3:
        return length
    octave = min(length, 32).bit_length() - 1
    return 2 * octave + (min(length, 32) >> (octave - 1) & 1)


def prob_of(bucket: int) -> float:
    """Probability that the next token follows a match, before this text has shown its own."""
    return 1 - 0.8 / bucket


# (bucket, prior) by the length of a match, 0 to 32. Computed once: a step asks some fifty times.
BY_MATCH_LENGTH = [(0, 0.0)] + [
    (bucket_of(length), prob_of(bucket_of(length))) for length in range(1, 33)
]

__all__ = ["BY_MATCH_LENGTH", "bucket_of", "prob_of"]
