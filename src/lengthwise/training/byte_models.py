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
from torch import Tensor
from transformers import PreTrainedModel

from lengthwise.architectures.learn_your_tokens import LearnYourTokens
from lengthwise.architectures.word_units import joined, sizes_of, units_of
from lengthwise.tokenization.equal_info import EqualInfo
from lengthwise.training.config import TrainingError
from lengthwise.training.fitting import fit_batches, written_loss

Told = Callable[[int, float], None]
_TOGETHER = 16
# Words of a text without spaces are nearly as long as they may be.
_SPACELESS = 0.75


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
        warmup: updates over which the rate rises to its highest, fewer than all.
    """

    steps: int = 400
    batch: int = 16
    lr: float = 3e-3
    clip: float = 1.0
    seed: int = 0
    warmup: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}={getattr(self, name)}: give at least 1")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise TrainingError(f"lr={self.lr}: give a number above 0")
        if not 0 <= self.warmup < self.steps:
            raise TrainingError(
                f"warmup={self.warmup}: give 0 or more updates, and fewer than steps={self.steps}"
            )


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
    fit_batches(
        model, lambda some: written_loss(model, some, [1] * len(some)), rows, how, told, how.warmup
    )  # fmt: skip


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


def word_rows(model: LearnYourTokens, text: str | bytes, words: int) -> list[Tensor]:
    """Rows of words for a model over words, int64 `[words, longest + 1]` each.

    Args:
        model: whose longest word it is.
        text: any; longer words are cut.
        words: of a row.

    Raises:
        TrainingError: for a text without spaces.
        TokenizerError: for half a surrogate pair.
    """
    longest = model.config.longest
    found = units_of(text, longest)
    mean = found.size / len(found.units)
    if mean > _SPACELESS * longest:
        raise TrainingError(
            f"this text has {mean:.1f} bytes between spaces, and a word at most {longest}: its "
            f"pieces would be no words ({found.cut} are cut); put spaces between its words, or "
            "train a model over bytes"
        )
    return list(found.units.split(words))


def fit_words(model: LearnYourTokens, rows: Seq[Tensor], how: Fit, told: Told = silent) -> None:
    """Trains a model over words on rows of words, in place.

    Args:
        model: of words.
        rows: int64 `[words, longest + 1]` each.
        how: steps and rates.
        told: called with each step and its loss, in nats a byte.

    Raises:
        TrainingError: where there is no row.
    """
    if not rows:
        raise TrainingError("there is no row to train on: give more text")

    def loss_of(some: Seq[Tensor]) -> Tensor:
        units = joined(some)
        return model.spelled(units)[0].sum() / sizes_of(units).sum()

    fit_batches(model, loss_of, rows, how, told, how.warmup)


@torch.inference_mode()
def bits_of_words(model: LearnYourTokens, rows: Seq[Tensor]) -> float:
    """Bits of rows of words, all together: each word is the product of its units.

    Args:
        model: of words.
        rows: int64 `[words, longest + 1]` each.
    """
    parts = [rows[at : at + _TOGETHER] for at in range(0, len(rows), _TOGETHER)]
    return sum(float(model.spelled(joined(some))[0].sum()) for some in parts) / math.log(2)


def train_learn_your_tokens(
    model: LearnYourTokens, text: str | bytes, held_out: str | bytes, how: Fit | None = None,
    words: int = 128, told: Told = silent,
) -> float:  # fmt: skip
    """Trains a model over words on a text, in place; bits a byte of a held-out text.

    Args:
        model: of words.
        text: to train on.
        held_out: another text.
        how: steps and rates.
        words: of a row.
        told: called with each step and its loss in nats a byte.

    Raises:
        TrainingError: for an empty text, or one without spaces.
    """
    if not text or not held_out:
        raise TrainingError("there is no text to train on, or none held out: give both")
    if words < 2:
        raise TrainingError(f"words={words}: a row has at least 2")
    test = word_rows(model, held_out, words)
    fit_words(model, word_rows(model, text, words), how or Fit(), told)
    return bits_of_words(model, test) / sum(int(sizes_of(row).sum()) for row in test)


__all__ = [
    "Fit",
    "bits_of_rows",
    "bits_of_words",
    "fit_rows",
    "fit_words",
    "train_equal_info",
    "train_learn_your_tokens",
    "window_rows",
    "word_rows",
]
