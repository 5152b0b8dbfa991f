"""The questions that our methods answer."""

from __future__ import annotations

from enum import StrEnum


class Question(StrEnum):
    """What our methods answer, by name. A question is a word that a slot names (`methods.slots`):
    one that does not stand here is written as that word."""

    POSITIONS = "positions"
    SELECTION = "selection"
    RETENTION = "retention"
    CODECS = "codecs"
    DRAFTING = "drafting"
    DECODING = "decoding"
    PROMPTING = "prompting"


__all__ = ["Question"]
