"""Ways to write that take the place of choosing one token a step.

A decoding mode says what is fed, and is told the laws of what follows. It may feed several texts,
each a fork of what the prompt left (`Sequence.branch`), or a mixture of several in one sequence.
Keys and values are kept under whatever plan. It ends with several texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq, Set
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampler import Sampler


@dataclass(frozen=True)
class StepInput:
    """What is fed next: a sequence and its new token. embedding `[hidden]`: fed in place of that
    token's own."""

    sequence: Sequence
    token: int
    embedding: Tensor | None = None


@dataclass(frozen=True)
class Alternative:
    """One of the texts: tokens (stop tokens left out) and the score by which it is ranked.

    ended: by a stop token, rather than cut off.
    """

    tokens: list[int]
    score: float
    ended: bool


class DecodingMode(ABC):
    """Writes several texts; one object per request.

    Of the request's own sequence nothing but the prompt counts afterwards: to go on from one of
    the texts, read it anew. mixes: what is fed are mixtures of texts, which no law and no rule can
    look at.
    """

    mixes: ClassVar[bool] = False

    @abstractmethod
    def begin(self, sampler: Sampler, limit: int, stop_ids: Set[int]) -> None:
        """Before the prompt is read.

        Args:
            sampler: how tokens are to be chosen, laws and rules included.
            limit: most tokens of each text.
            stop_ids: tokens that end a text.

        Raises:
            LengthwiseError: for a sampling it cannot honour.
        """

    @abstractmethod
    def start(self, sequence: Sequence, logits: Tensor) -> None:
        """The prompt has been read and ended; logits `[vocab]` predict what follows it.

        Args:
            sequence: that read it.
            logits: of the token after it, the model's own.
        """

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether nothing more needs to be fed."""

    @abstractmethod
    def step_inputs(self) -> list[StepInput]:
        """What is fed next, in one forward; at least one, no two of one sequence."""

    @abstractmethod
    def advance(self, logits: Seq[Tensor]) -> None:
        """Takes the logits `[vocab]` after each of those inputs, which are committed.

        Args:
            logits: the model's own, of what follows the last `step_inputs`.
        """

    @abstractmethod
    def alternatives(self) -> list[Alternative]:
        """The texts, best first, no two alike; at least one."""

    @property
    def width(self) -> int:
        """Texts that may come to hold entries of their own at once, at most."""
        return 1

    def held(self) -> list[Sequence]:
        """Sequences beside the request's own that hold entries now."""
        return []

    @property
    def figures(self) -> dict[str, float]:
        """What it did and cost, by its words: they join `RequestMetrics.figures`."""
        return {}


def embedded(inputs: Seq[StepInput]) -> Tensor | None:
    """Embeddings `[inputs, hidden]` of a forward in which somebody gave one of its own, else None.

    Args:
        inputs: of one forward.
    """
    if all(each.embedding is None for each in inputs):
        return None
    model = inputs[0].sequence.model
    own = model.embed(torch.tensor([each.token for each in inputs], device=model.device))
    given = [each.embedding for each in inputs]
    return torch.stack([a if b is None else b for a, b in zip(own, given, strict=True)])


__all__ = ["Alternative", "DecodingMode", "StepInput", "embedded"]
