"""What decides on a cartridge: how its pairs are made, and how it is trained on them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from lengthwise.training.cartridge_prompts import KINDS
from lengthwise.training.config import TrainingError


@dataclass(frozen=True)
class Study:
    """How pairs are made; defaults are those of the authors' scripts.

    Attributes:
        pairs: questions with answers, in all.
        batch: questions about one chunk.
        min_chunk: tokens of a chunk, at least; a shorter corpus is taken whole.
        max_chunk: tokens of a chunk, at most.
        question_tokens: of a question, at most.
        answer_tokens: of an answer, at most.
        temperature: of bot A; bot B is greedy.
        top: of the teacher's likeliest tokens are kept.
        kinds: of questions, see `cartridge_prompts`.
        seed: of chunks, kinds and questions.
    """

    pairs: int = 512
    batch: int = 16
    min_chunk: int = 512
    max_chunk: int = 4096
    question_tokens: int = 512
    answer_tokens: int = 1024
    temperature: float = 0.6
    top: int = 20
    kinds: tuple[str, ...] = KINDS
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("pairs", "batch", "min_chunk", "max_chunk", "question_tokens", "answer_tokens",
                  "top")  # fmt: skip
        for name in counts:
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}={getattr(self, name)}: give at least 1")
        if self.min_chunk > self.max_chunk:
            raise TrainingError(
                f"chunks of at least {self.min_chunk} and at most {self.max_chunk} tokens: the "
                "first must not be larger"
            )
        strange = [kind for kind in self.kinds if kind not in KINDS]
        if strange or not self.kinds:
            raise TrainingError(f"kinds {strange}: allowed are {', '.join(KINDS)}, at least one")

    def deciding(self) -> dict[str, Any]:
        """What decides what a batch is; more batches may always be made."""
        found = asdict(self) | {"kinds": list(self.kinds)}
        del found["pairs"]
        return found


@dataclass(frozen=True)
class Settings:
    """How a cartridge is trained; defaults are those of the authors' script.

    Attributes:
        tokens: entries a layer, at most; a shorter corpus has one a token.
        steps: updates; None is two passes over the pairs.
        batch: rows of an update.
        together: rows of a forward.
        lr: of Adam, constant.
        frozen: first tokens that stay as they are.
        max_length: longer rows are cut there.
        held_out: pairs beyond those trained on, whose loss is told in the end.
        every: steps between two checkpoints.
        seed: of the order of rows.
    """

    tokens: int = 2048
    steps: int | None = None
    batch: int = 64
    together: int = 4
    lr: float = 2e-2
    frozen: int = 1
    max_length: int = 1024
    held_out: int = 0
    every: int = 16
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("tokens", "batch", "together", "max_length", "every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}={getattr(self, name)}: give at least 1")
        if self.steps is not None and self.steps < 1:
            raise TrainingError(f"steps={self.steps}: give at least 1, or None")
        if not 0 <= self.frozen < self.tokens:
            raise TrainingError(
                f"frozen={self.frozen}: allowed is 0 to {self.tokens - 1}, so that something of "
                f"{self.tokens} tokens is trained"
            )
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise TrainingError(f"lr={self.lr}: give a number above 0")
        if self.held_out < 0:
            raise TrainingError(f"held_out={self.held_out}: give 0 or more")

    def deciding(self) -> dict[str, Any]:
        """What decides on the numbers: all but when checkpoints are written."""
        found = asdict(self)
        del found["every"]
        return found


__all__ = ["Settings", "Study"]
