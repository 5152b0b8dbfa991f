"""Losses of a text while it is being read, of every token or of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.logprobs import TokenLogprob, logprobs_of
from lengthwise.errors import NotFinite

# Logits are turned into losses this many rows at a time: float32 copies stay small.
ROWS = 256


@dataclass
class Losses:
    """-log p of the tokens read so far; `every` 8 asks for those at positions 8, 16, 24, ...

    Which tokens are asked for is a matter of their positions in the sequence alone, never of how it
    was fed. The first token of a sequence is predicted by nothing and left out. positions and
    values are aligned. A token to which the model gives probability 0 has an infinite loss.
    likeliest: of how many of the likeliest tokens `told` has the log-probabilities, beside each
    token; None keeps it empty. Only every token can be told of so.
    """

    every: int = 1
    likeliest: int | None = None
    positions: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    told: list[TokenLogprob] = field(default_factory=list)

    def tell(self, before: Tensor | None, logits: Tensor, tokens: Seq[int]) -> None:
        """Takes what was thought of the tokens of a chunk, where that is asked for.

        before `[vocab]` predicts the first of them; None where nothing came before it. logits
        `[len(tokens), vocab]` are those after each.
        """
        if self.likeliest is None:
            return
        if before is not None:
            self.told += logprobs_of(before[None], tokens[:1], self.likeliest)
        for row in range(0, len(tokens) - 1, ROWS):
            part = tokens[1 + row : 1 + row + ROWS]
            self.told += logprobs_of(logits[row:], part, self.likeliest)

    def add(self, start: int, losses: Seq[float], every: int | None = None) -> None:
        """Losses of the tokens at the multiples of `every` (by default its own, of which it has to
        be a divisor) from position `start` on."""
        given = every or self.every
        first = start + first_wanted(start, given)
        for place, loss in zip(
            range(first, first + len(losses) * given, given), losses, strict=True
        ):
            if place and place % self.every == 0:
                self.positions.append(place)
                self.values.append(loss)


def first_wanted(start: int, every: int) -> int:
    """Of tokens from position `start` on, the index of the first at a multiple of `every`."""
    return -start % every


def predicting_rows(count: int, every: int, start: int = 0) -> Tensor:
    """Rows of a chunk whose logits are wanted for losses, and its last row.

    The chunk has `count` tokens from position `start` on. Wanted are the rows that predict its
    tokens at multiples of `every`; its first token is predicted by what came before the chunk. The
    last row predicts what comes next. every 0 asks for the last alone.
    """
    wanted = range(first_wanted(start, every), count, every) if every else ()
    rows = torch.tensor([place - 1 for place in wanted if place], dtype=torch.long)
    return torch.cat([rows, torch.tensor([count - 1])])


def token_losses(
    before: Tensor | None, logits: Tensor, tokens: Seq[int], every: int = 1, start: int = 0
) -> list[float]:
    """-log p of the tokens of a chunk that stand at multiples of `every`.

    before `[vocab]` predicts the chunk's first token, whose loss is infinite where nothing came
    before it; logits are those of `predicting_rows` (the last row is not used). start: position of
    the chunk's first token. Raises NotFinite where the logits give no loss: for NaN, and for plus
    infinity.
    """
    first = first_wanted(start, every)
    targets = torch.tensor(tokens, device=logits.device)[first::every]
    found: list[float] = []
    if not first:
        found = [float("inf")]
        if before is not None:
            found = [float(F.cross_entropy(before.float()[None], targets[:1]))]
    wanted = targets[len(found) :]
    for row in range(0, len(wanted), ROWS):
        part = wanted[row : row + ROWS]
        rows = logits[row : row + len(part)].float()
        found += F.cross_entropy(rows, part, reduction="none").tolist()
    for number, loss in enumerate(found):
        if math.isnan(loss):
            place = start + first + number * every
            raise NotFinite(place, dtype=str(logits.dtype).removeprefix("torch."))
    return found


def note_token_nll(sequence: Sequence, logits: Tensor, tokens: Seq[int]) -> None:
    """Notes -log p of tokens that are about to be committed, for a retention that asked for it.

    logits `[len(tokens), vocab]`: those after each of them. Raises NotFinite as `token_losses`.
    """
    sequence.token_nll += token_losses(sequence.last_logits, logits, tokens, start=len(sequence))
    sequence.last_logits = logits[-1].clone()
