"""What checks of `lengthwise.architectures` share: tiny models on one book, losses by length.

The corpus, tokenizer and held-out tokens are those of `positions/lengthened.py`: Moby Dick in 1,024
byte-level pieces, losses in nats a token of its last 8,192. Rows that models are trained on have
256 tokens, 2,048 a step. What is trained is kept in a folder and not done again. float32, CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.reproduction import tiny
from benchmarks.reproduction.positions import lengthened
from transformers import PreTrainedModel

from lengthwise import architectures

TOGETHER = 2048
"""Tokens that are read in one forward, or one row."""


@dataclass(frozen=True)
class Book:
    """The rows and the held-out tokens of a folder."""

    folder: Path
    rows: str
    held_out: tuple[int, ...]

    def trained(self, name: str, model: dict[str, Any], steps: int, seed: int = 0) -> Any:
        """The model of a run of this name, trained now where it is not there yet."""
        place = tiny.run(self.folder, name, self.rows, steps=steps, model=model, seed=seed)
        return tiny.trained(place)

    def losses(self, model: PreTrainedModel, lengths: Iterable[int]) -> dict[str, float]:
        """Nats a token of what is held out, in rows of each length."""
        return {str(length): loss(model, self.held_out, length) for length in lengths}


def opened(folder: Path) -> Book:
    """The book in a folder, made where it is not there yet; transformers knows our models."""
    architectures.register()
    rows = lengthened.prepare(folder)[lengthened.TRAINED]
    return Book(folder, rows, tuple(lengthened.held_out(folder)))


@torch.inference_mode()
def loss(model: PreTrainedModel, ids: tuple[int, ...], length: int) -> float:
    """Nats a token in rows of a length; a row's first token is not counted."""
    rows = torch.tensor(ids).view(-1, length)
    total = 0.0
    for some in rows.split(max(1, TOGETHER // length)):
        logits = model(input_ids=some).logits[:, :-1].flatten(0, 1).float()
        total += float(torch.nn.functional.cross_entropy(logits, some[:, 1:].flatten(),
                                                         reduction="sum"))  # fmt: skip
    return round(total / (rows.numel() - len(rows)), 4)


__all__ = ["Book", "loss", "opened"]
