"""Training of models over words, bytes and windows of bytes; what all are told in is bits a byte.

    train_equal_info          a causal model over the tokens of Equal-Info Windows
    train_learn_your_tokens   words of bytes, pooled
    train_byte2word           masked words of bytes

Each takes texts and gives what a held-out text costs. A bit a byte is the one loss that compares
across tokens: the sum of the losses of all tokens, in bits, over the bytes they stand for. The loop
is that of `fitting.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from lengthwise.tokenization.equal_info import EqualInfo
from lengthwise.training.config import TrainingError
from lengthwise.training.fitting import fit_batches, written_loss

Told = Callable[[int, float], None]
_TOGETHER = 16


def silent(step: int, loss: float) -> None:
    """Says nothing of a step."""


@dataclass(frozen=True)
class Fit:
    """How a model is trained.

    Attributes:
        steps: updates.
        batch: rows of an update, drawn with replacement.
        lr: of AdamW at its highest; it falls linearly to a tenth.
        clip: most that the norm of a gradient may be.
        seed: of what is drawn.
    """

    steps: int = 400
    batch: int = 16
    lr: float = 3e-3
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}={getattr(self, name)}: give at least 1")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise TrainingError(f"lr={self.lr}: give a number above 0")


def fit_rows(model: PreTrainedModel, rows: Seq[Seq[int]], how: Fit, told: Told = silent) -> None:
    """Trains a causal model on rows of tokens, in place.

    Args:
        model: any causal model of transformers.
        rows: tokens of each; the first, which begins a row, is not predicted.
        how: steps and rates.
        told: called with each step and its loss in nats a token.

    Raises:
        TrainingError: where there is no row of two tokens.
    """
    if not rows or min(map(len, rows)) < 2:
        raise TrainingError("there is no row to train on, or one of a single token: give more text")
    fit_batches(model, lambda some: written_loss(model, some, [1] * len(some)), rows, how, told)


@torch.inference_mode()
def bits_of_rows(model: PreTrainedModel, rows: Seq[Seq[int]]) -> float:
    """Bits of rows of tokens, all together; the first token of each is given.

    Args:
        model: any causal model of transformers.
        rows: tokens of each.
    """
    total = 0.0
    for first in range(0, len(rows), _TOGETHER):
        some = rows[first : first + _TOGETHER]
        nats = float(written_loss(model, some, [1] * len(some)))
        total += nats * sum(len(row) - 1 for row in some) / math.log(2)
    return total


def window_rows(coder: EqualInfo, text: bytes, length: int) -> list[list[int]]:
    """Rows of tokens of windows, each behind one that begins it, of id `coder.vocabulary`.

    Args:
        coder: of the windows.
        text: any bytes.
        length: tokens of a row; windows are not cut.
    """
    length -= length % coder.tokens_per_window
    tokens = coder.encode(text).tokens.tolist()
    return [[coder.vocabulary, *tokens[at : at + length]] for at in range(0, len(tokens), length)]


def train_equal_info(
    model: PreTrainedModel, coder: EqualInfo, text: bytes, held_out: bytes, how: Fit | None = None,
    length: int = 512, told: Told = silent,
) -> float:  # fmt: skip
    """Trains M2 on the windows of a text, in place; bits a byte of a held-out text.

    Args:
        model: any causal model of transformers with `coder.vocabulary + 1` ids or more.
        coder: of the windows, and M1 within it.
        text: to train on.
        held_out: another text.
        how: steps and rates.
        length: tokens of a row; the paper's are 512.
        told: called with each step and its loss in nats a token.

    Raises:
        TrainingError: for an empty text, rows of no window, or a model of too few ids.
    """
    if not text or not held_out:
        raise TrainingError("there is no text to train on, or none held out: give both")
    if length < coder.tokens_per_window:
        raise TrainingError(
            f"length={length}: a row has at least the {coder.tokens_per_window} tokens of a window"
        )
    if model.config.vocab_size <= coder.vocabulary:
        raise TrainingError(
            f"the model has {model.config.vocab_size} ids: windows need {coder.vocabulary + 1}, "
            "their tokens and one that begins a row"
        )
    fit_rows(model, window_rows(coder, text, length), how or Fit(), told)
    return bits_of_rows(model, window_rows(coder, held_out, length)) / len(held_out)


__all__ = ["Fit", "bits_of_rows", "fit_rows", "train_equal_info", "window_rows"]
