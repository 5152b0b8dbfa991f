"""Ways to write that take the place of choosing one token a step.

A mode is fed like any sequence, one column of keys and values a step under whatever plan keeps
them, but what it feeds is an embedding of its own making, and what it ends with are several texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq, Set
from dataclasses import dataclass

from torch import Tensor

from lengthwise.engine.sampling import Sampling


@dataclass(frozen=True)
class Column:
    """What is fed next: an embedding `[hidden]`, and the one token that stands for it where the
    sequence is asked for its tokens."""

    token: int
    embedding: Tensor


@dataclass(frozen=True)
class Alternative:
    """One of the texts: tokens (stop tokens left out) and the mean log score of a token.

    ended: by a stop token, rather than cut off.
    """

    tokens: list[int]
    score: float
    ended: bool


class Mode(ABC):
    """Writes several texts in the columns of one; one object per sequence.

    After it the sequence holds mixtures: to go on from one of the texts, read it anew.
    """

    @abstractmethod
    def begin(self, sampling: Sampling, limit: int, stop_ids: Set[int]) -> None:
        """Before the prompt is read: at most `limit` tokens each, up to a stop id.

        Raises LengthwiseError for a sampling it cannot honour.
        """

    @abstractmethod
    def start(self, tokens: Seq[int], logits: Tensor) -> None:
        """The prompt has been read; logits `[vocab]` predict what follows it."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether nothing more needs to be fed."""

    @abstractmethod
    def column(self) -> Column:
        """What is fed next."""

    @abstractmethod
    def advance(self, logits: Tensor) -> None:
        """Takes the logits `[vocab]` after the column."""

    @abstractmethod
    def alternatives(self) -> list[Alternative]:
        """The texts, best first, no two alike; at least one."""
