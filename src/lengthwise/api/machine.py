"""What this machine gives, and which kernels serve a model on it: the answer of `machine`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from lengthwise._utils.timings import Timings, facts, in_turn
from lengthwise.api.model import Model
from lengthwise.engine.kernels import choice
from lengthwise.engine.kernels.choice import Seconds, Shape
from lengthwise.engine.kernels.tuning import shape_of, timed, tune
from lengthwise.errors import LengthwiseError

# Bytes of a plain read: far more than caches hold. Rows of a square plain product.
READ = 1 << 28
SQUARE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Timed:
    """One shape of one question.

    seconds: of each kernel that can. chosen: the one that serves. rate: what the chosen one reads,
    bytes a second, or computes, operations a second, by `unit` ("GB/s", "TFLOP/s").
    """

    question: str
    rows: int
    keys: int
    seconds: Mapping[str, float]
    chosen: str
    rate: float
    unit: str


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
        again: times everything anew, which takes a second or two; False reads what is known.

    Raises:
        LengthwiseError: for what is no model.
    """
    if not isinstance(model, Model):
        raise LengthwiseError(
            f"machine of a {type(model).__name__}: give what lengthwise.load or wrap gave"
        )
    adapted = model.adapted
    with choice.using(adapted.kernel):
        tune(adapted, again)
        shape = shape_of(adapted)
        found = tuple(_rows(shape))
    note = "" if found else _why_not(adapted.kernel)
    reads, products = _plain(adapted.device, adapted.dtype)
    return Machine(
        facts(adapted.device), reads, products, str(shape), found, note,
        str(Timings(adapted.device).path) if found else "",
    )  # fmt: skip


def _why_not(kernel: str | None) -> str:
    if choice.fixed() or kernel:
        return f"nothing is timed: an override is given ({kernel or choice.VARIABLE})"
    return "nothing is timed for models this small"


def _rows(shape: Shape) -> Iterator[Timed]:
    for question, (rows, keys), seconds in timed(shape):
        chosen = choice.fastest(question, seconds)
        rate, unit = _rate(question, shape, rows, keys, seconds[chosen])
        yield Timed(question, rows, keys, seconds, chosen, rate, unit)


def _rate(question: str, shape: Shape, rows: int, keys: int, seconds: float) -> tuple[float, str]:
    """Of a block its products of queries with the keys they see, and with the values; else what is
    read of keys, and of values where they are."""
    if question == "block":
        seen = rows * (keys - rows) + rows * (rows + 1) / 2
        return 4 * shape.heads * seen * shape.head_dim / seconds, "TFLOP/s"
    each = shape.key_heads * keys * shape.head_dim * torch.empty((), dtype=shape.dtype).itemsize
    return each * (2 if question == "step" else 1) / seconds, "GB/s"


def _plain(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes a second of a sum, and operations a second of a product."""
    many = torch.ones(READ // 4, device=device)
    side = SQUARE.get(device.type, SQUARE["cpu"])
    square = torch.ones(side, side, device=device, dtype=dtype)
    with torch.inference_mode():
        seconds: Seconds = in_turn({"read": many.sum, "product": lambda: square @ square}, device)
    return many.nbytes / seconds["read"], 2 * side**3 / seconds["product"]


__all__ = ["Machine", "Timed", "machine"]
