"""What this machine gives, and which kernels serve a model on it: the answer of `machine`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from lengthwise._utils.timings import Timed, Timings, facts, in_turn
from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.kernels import choice
from lengthwise.engine.kernels.choice import Seconds
from lengthwise.engine.kernels.tuning import shape_of, timed, tune
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.quantised import time_rows, timed_layers

# Bytes of a plain read: far more than caches hold. Rows of a square plain product.
READ = 1 << 28
SQUARE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Machine:
    """A machine and a model on it.

    facts: what timings hold for (processor, features, threads, torch, GPU). reads: bytes a second
    of a plain sum. products: operations a second of a plain product in the model's dtype. timed:
    empty where nothing is, which `note` explains. path: where the timings are kept.
    """

    facts: Mapping[str, str]
    reads: float
    products: float
    shape: str
    timed: tuple[Timed, ...]
    note: str = ""
    path: str = ""


def machine(model: Model, again: bool = False) -> Machine:
    """Which kernels serve a model on this machine, with what was timed.

    Args:
        model: one that `load` or `wrap` gave; its heads and dtype are what is timed.
        again: times everything anew, which takes some seconds; False reads what is known.

    Raises:
        LengthwiseError: for what is no model.
    """
    if not isinstance(model, Model):
        raise LengthwiseError(
            f"machine of a {type(model).__name__}: give what lengthwise.load or wrap gave"
        )
    adapted = model.adapted
    if again:
        _forget(adapted)
    with choice.using(adapted.kernel):
        tune(adapted, again)
        shape = shape_of(adapted)
        found = tuple(timed(shape))
    reads, products = _plain(adapted.device, adapted.dtype)
    if not found:
        note = _why_not(adapted.kernel)
        return Machine(facts(adapted.device), reads, products, str(shape), found, note)
    weights = (*timed_layers(adapted.model), *(adapted.fast.timed() if adapted.fast else ()))
    return Machine(
        facts(adapted.device), reads, products, str(shape), found + weights,
        path=str(Timings(adapted.device).path),
    )  # fmt: skip


def _forget(adapted: AdaptedModel) -> None:
    """Has a model's weights timed anew: its fused forward is made again."""
    timings = Timings(adapted.device)
    timings.forget()
    timings.save()
    time_rows(adapted.model)
    if adapted.fast is not None:
        adapted.fast.release()
        loop.prefill(Sequence(adapted), [0])


def _why_not(kernel: str | None) -> str:
    if choice.fixed() or kernel:
        return f"nothing is timed: an override is given ({kernel or choice.VARIABLE})"
    return "nothing is timed for models this small"


def _plain(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes a second of a sum, and operations a second of a product."""
    many = torch.ones(READ // 4, device=device)
    side = SQUARE.get(device.type, SQUARE["cpu"])
    square = torch.ones(side, side, device=device, dtype=dtype)
    with torch.inference_mode():
        seconds: Seconds = in_turn({"read": many.sum, "product": lambda: square @ square}, device)
    return many.nbytes / seconds["read"], 2 * side**3 / seconds["product"]


__all__ = ["Machine", "Timed", "machine"]
