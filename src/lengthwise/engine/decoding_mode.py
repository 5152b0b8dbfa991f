"""Ways to write that take the place of choosing one token a step.

A decoding mode is fed like any sequence: one input a step, whose keys and values are kept under
whatever plan. But what it feeds is an embedding of its own making, and it ends with several texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq, Set
from dataclasses import dataclass

from torch import Tensor

from lengthwise.engine.sampling import Sampling


@dataclass(frozen=True)
class StepInput:
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


class DecodingMode(ABC):
    """Writes several texts in the cache of one; one object per sequence.

    After it the sequence holds mixtures: to go on from one of the texts, read it anew.
    """

    @abstractmethod
    def begin(self, sampling: Sampling, limit: int, stop_ids: Set[int]) -> None:
        """Before the prompt is read.

        Args:
            sampling: how tokens are to be chosen.
            limit: most tokens of each text.
            stop_ids: tokens that end a text.

        Raises:
            LengthwiseError: for a sampling it cannot honour.
        """

    @abstractmethod
    def start(self, tokens: Seq[int], logits: Tensor) -> None:
        """The prompt has been read; logits `[vocab]` predict what follows it.

        Args:
            tokens: ids of the prompt.
            logits: of the token after it, the model's own.
        """

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether nothing more needs to be fed."""

    @abstractmethod
    def step_input(self) -> StepInput:
        """What is fed next."""

    @abstractmethod
    def advance(self, logits: Tensor) -> None:
        """Takes the logits `[vocab]` after that input.

        Args:
            logits: the model's own, of what follows the last `step_input`.
        """

    @abstractmethod
    def alternatives(self) -> list[Alternative]:
        """The texts, best first, no two alike; at least one."""
