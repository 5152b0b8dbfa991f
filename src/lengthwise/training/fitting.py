"""Training of small things on batches of token rows that are drawn: what objectives of their own
have in common. The trainer of runs is `trainer.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from random import Random
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from lengthwise.training.config import TrainingError

IGNORED = -100
_END = 0.1
"""The share of the rate that is left at the end."""

Text = TypeVar("Text")


class Rates(Protocol):
    """steps: updates. batch: texts of one. lr: the highest rate, which falls linearly to a tenth.
    clip: most that the norm of a gradient may be."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def clip(self) -> float: ...
    @property
    def seed(self) -> int: ...


def fit_batches(
    module: nn.Module, loss_of: Callable[[Seq[Text]], Tensor], texts: Seq[Text], how: Rates,
    told: Callable[[int, float], None] = lambda step, loss: None, warmup: int = 0,
) -> None:  # fmt: skip
    """Trains what of a module takes gradients by AdamW, in place.

    Args:
        module: put in evaluation mode at the end.
        loss_of: of a batch.
        texts: at least one; batches are drawn from them with replacement.
        how: steps and rates.
        told: called with each step and its loss.
        warmup: updates over which the rate rises to its highest.

    Raises:
        TrainingError: for a loss or gradient that is no number.
    """
    chance, weights = Random(how.seed), [w for w in module.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=how.lr, weight_decay=0.0)
    module.train()
    with torch.inference_mode(False), torch.enable_grad():
        for step in range(how.steps):
            loss = loss_of(chance.choices(texts, k=how.batch))
            loss.backward()
            norm = nn.utils.clip_grad_norm_(weights, how.clip)
            if not torch.isfinite(loss.detach() + norm):
                raise TrainingError(
                    f"the loss or gradient of step {step} is not finite: train with a lower lr"
                )
            for group in optimizer.param_groups:
                group["lr"] = how.lr * min(
                    1 - (1 - _END) * step / how.steps, (step + 1) / (warmup + 1)
                )
            optimizer.step()
            optimizer.zero_grad()
            told(step + 1, float(loss.detach()))
    module.eval()


def written_loss(
    model: PreTrainedModel, rows: Seq[Seq[int]], firsts: Seq[int], embedded: Tensor | None = None
) -> Tensor:
    """Nats a token of what stands in rows from `firsts` on.

    Args:
        model: that is to say it.
        rows: tokens of each text.
        firsts: of each, the first token that counts.
        embedded: `[rows, longest, hidden]`, read in place of the tokens' own embeddings.
    """
    ids = padded_ids(rows, model.device, 0)
    targets = padded_ids(rows, model.device, IGNORED)
    for row, first in zip(targets, firsts, strict=True):
        row[:first] = IGNORED
    given: dict[str, Any] = {"input_ids": ids} if embedded is None else {"inputs_embeds": embedded}
    logits = model(**given, use_cache=False).logits[:, :-1]
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets[:, 1:].flatten(), ignore_index=IGNORED
    )


def padded_ids(rows: Seq[Seq[int]], device: torch.device, filling: int) -> Tensor:
    """Rows of tokens `[rows, longest]`, filled up behind their end.

    Args:
        rows: tokens of each text.
        device: where they are wanted.
        filling: what stands behind the end.
    """
    made = [torch.tensor(row, dtype=torch.long, device=device) for row in rows]
    return pad_sequence(made, batch_first=True, padding_value=filling)


__all__ = ["IGNORED", "Rates", "fit_batches", "padded_ids", "written_loss"]
