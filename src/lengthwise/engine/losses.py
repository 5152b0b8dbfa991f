"""Losses of a text while it is being read, of every token or of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.errors import NotFinite

# Logits are turned into losses this many rows at a time: float32 copies stay small.
ROWS = 256


@dataclass
class Losses:
    """-log p of the tokens read so far; `every` 8 asks for one token in eight of each chunk.

    The first token of a sequence is predicted by nothing and left out. positions and values are
    aligned. A token that the model gives no chance at all has an infinite loss.
    """

    every: int = 1
    positions: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, start: int, losses: Sequence[float]) -> None:
        """Losses of the tokens start, start + every, ..."""
        for number, loss in enumerate(losses):
            if place := start + number * self.every:
                self.positions.append(place)
                self.values.append(loss)


def predicting_rows(count: int, every: int) -> Tensor:
    """Rows of a chunk of `count` tokens whose logits predict its tokens every, 2 every, ...; and
    the last row, which predicts what comes next. every 0 asks for the last alone."""
    picked = range(every - 1, count - 1, every) if every else ()
    rows = torch.tensor(picked, dtype=torch.long)
    return torch.cat([rows, torch.tensor([count - 1])])


def token_losses(
    before: Tensor | None, logits: Tensor, tokens: Sequence[int], every: int = 1, start: int = 0
) -> list[float]:
    """-log p of the tokens 0, every, 2 every, ... of a chunk.

    before `[vocab]` predicts the first, which is infinite where nothing came before it; logits are
    those of `predicting_rows` (the last row is not used). start: position of the chunk's first
    token. Raises NotFinite where the logits give no loss: for NaN, and for plus infinity.
    """
    targets = torch.tensor(tokens, device=logits.device)[::every]
    found = [float("inf")]
    if before is not None:
        found = [float(F.cross_entropy(before.float()[None], targets[:1]))]
    wanted = targets[1:]
    for row in range(0, len(wanted), ROWS):
        part = wanted[row : row + ROWS]
        rows = logits[row : row + len(part)].float()
        found += F.cross_entropy(rows, part, reduction="none").tolist()
    for number, loss in enumerate(found):
        if math.isnan(loss):
            raise NotFinite(start + number * every, dtype=str(logits.dtype).removeprefix("torch."))
    return found
