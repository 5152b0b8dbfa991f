"""Updates of a cartridge's keys and values, one after another, and the baseline beside them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence as Seq
from typing import Any

import torch
from torch.optim import Adam

from lengthwise._utils.messages import first_line, ran_out
from lengthwise.api.model import Model
from lengthwise.api.session import Session
from lengthwise.errors import LengthwiseError
from lengthwise.training.cartridge_config import Settings
from lengthwise.training.cartridge_rows import Row, next_token_rows
from lengthwise.training.cartridge_student import Prefix, batches, frozen, loss_of
from lengthwise.training.config import TrainingError

# Tokens that student and engine are compared on, and nats a token that they may be apart.
_COMPARED = 32
_APART = {torch.float64: 1e-3, torch.float32: 1e-3}
_APART_NARROW = 0.1
# What modules of others raise for a cache or a gradient that they cannot serve.
_STRANGE = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def fit(
    model: Model, prefix: Prefix, rows: Seq[Row], settings: Settings, steps: int, start: int = 0,
    optimizer: Adam | None = None, after: Callable[[int, dict[str, Any]], bool] | None = None,
) -> int:  # fmt: skip
    """Updates a prefix in place.

    Args:
        model: whose weights stay.
        prefix: what is trained.
        rows: to train on, again and again in a new order.
        settings: batch, rate and seed.
        steps: the number of the last one.
        start: steps that are done.
        optimizer: as it was after these; None is a new one.
        after: told of each step and its record; whether to go on.

    Returns:
        Steps that are done.

    Raises:
        TrainingError: for a loss or gradient that is no number.
    """
    optimizer = optimizer or Adam(prefix.parameters(), lr=settings.lr)
    with torch.inference_mode(False), torch.enable_grad(), frozen(model.adapted.model):
        for step in range(start, steps):
            record = _update(model, prefix, rows, settings, step, optimizer)
            if after is not None and not after(step + 1, record):
                return step + 1
    return steps


def _update(
    model: Model, prefix: Prefix, rows: Seq[Row], settings: Settings, step: int, optimizer: Adam
) -> dict[str, Any]:
    """One step; what the log says of it."""
    begin, chosen = time.perf_counter(), rows_of_step(len(rows), settings, step)
    predicted = sum(rows[each].predicted for each in chosen)
    total = 0.0
    for part in batches(chosen, rows, settings.together):
        loss = loss_of(model.adapted, prefix, part) / predicted
        loss.backward()
        total += float(loss.detach())
    norm = torch.nn.utils.get_total_norm([p.grad for p in prefix.trained if p.grad is not None])
    if not math.isfinite(total + float(norm)):
        raise TrainingError(
            f"the loss or gradient of step {step} is not finite: train with a lower lr, in another "
            "folder"
        )
    optimizer.step()
    optimizer.zero_grad()
    return {
        "loss": total, "gradient_norm": float(norm), "rows": len(chosen), "predicted": predicted,
        "tokens": sum(len(rows[each]) for each in chosen), "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def rows_of_step(count: int, settings: Settings, step: int) -> list[int]:
    """Which rows a step takes: passes over all of them follow each other, each in its own order.

    Args:
        count: rows there are.
        settings: batch and seed.
        step: the step's number, from 0.
    """
    orders: dict[int, list[int]] = {}
    found = []
    for place in range(step * settings.batch, (step + 1) * settings.batch):
        turn = place // count
        if turn not in orders:
            chance = torch.Generator().manual_seed(settings.seed + turn)
            orders[turn] = torch.randperm(count, generator=chance).tolist()
        found.append(orders[turn][place % count])
    return found


def train_on_text(
    model: Model, corpus: str, prefix: Prefix, settings: Settings, steps: int
) -> None:
    """The baseline: plain next-token training of a prefix on the corpus, in place.

    Args:
        model: whose weights stay.
        corpus: the text.
        prefix: what is trained.
        settings: batch, rate and length of rows.
        steps: updates.
    """
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(corpus, add_special_tokens=False)
    fit(model, prefix, next_token_rows(ids, settings.max_length), settings, steps)


def check_student(model: Model, prefix: Prefix, begun: Session) -> None:
    """Makes sure that transformers' forward behind the prefix is what the session computes, and
    that gradients come through it.

    Args:
        model: the student.
        prefix: of the session's entries; its gradients are none afterwards.
        begun: the session; its own tokens are read once more behind it.

    Raises:
        LengthwiseError: for a family whose cache is held in another way, with how far they are
            apart, and for weights that give no gradient.
    """
    some = (begun.tokens * 2)[:_COMPARED]
    wanted = -float(begun.score(some)[1:].sum())
    with torch.enable_grad(), frozen(model.adapted.model):
        try:
            loss = loss_of(model.adapted, prefix, next_token_rows(some, len(some)))
        except _STRANGE as error:
            if ran_out(error):
                raise
            raise _other_cache(model, first_line(error)) from error
        apart = abs(float(loss.detach()) - wanted) / (len(some) - 1)
        if not apart <= _APART.get(model.adapted.dtype, _APART_NARROW):
            raise _other_cache(model, f"they are {apart:.3g} nats a token apart")
        try:
            loss.backward()
        except _STRANGE as error:
            if ran_out(error):
                raise
            raise _no_gradients(model, first_line(error)) from error
    if any(each.grad is None for each in prefix.trained):
        raise _no_gradients(model, "some layer cuts them off")
    prefix.zero_grad()


def _no_gradients(model: Model, why: str) -> LengthwiseError:
    return LengthwiseError(
        f"{model.name} in {model.adapted.dtype_text} gives no gradients ({why}): load it in bf16 "
        "or fp32 to train a cartridge"
    )


def _other_cache(model: Model, why: str) -> LengthwiseError:
    return LengthwiseError(
        f"family {model.adapted.family!r} cannot be trained behind a cartridge: transformers does "
        f"not read given keys and values as the engine does ({why}); take another model"
    )


__all__ = ["check_student", "fit", "rows_of_step", "train_on_text"]
