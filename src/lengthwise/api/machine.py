"""What this machine gives, and which kernels serve a model on it: the answer of `machine`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from lengthwise._utils.timings import Timings, facts, in_turn
from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.kernels import choice
from lengthwise.engine.kernels.choice import Seconds, Shape
from lengthwise.engine.kernels.tuning import shape_of, timed, tune
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.norms import fastest
from lengthwise.models.packing import Packing

# Bytes of a plain read: far more than caches hold. Rows of a square plain product.
READ = 1 << 28
SQUARE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Timed:
    """One shape of one question.

    question: one of the kernels' ("block", "step", "scores"), "product" of rows with weights, or
    "norm" of rows. over: what the rows are multiplied by, "4096 keys" or "576x960", or their size.
    seconds: of each kernel that can. chosen: the one that serves. rate: what the chosen one reads,
    bytes a second, or computes, operations a second, by `unit` ("GB/s", "TFLOP/s").
    """

    question: str
    rows: int
    over: str
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
    if again:
        _forget(adapted)
    with choice.using(adapted.kernel):
        tune(adapted, again)
        shape = shape_of(adapted)
        found = tuple(_rows(shape))
    note = "" if found else _why_not(adapted.kernel)
    reads, products = _plain(adapted.device, adapted.dtype)
    if not found:
        return Machine(facts(adapted.device), reads, products, str(shape), found, note)
    timings = Timings(adapted.device)
    return Machine(
        facts(adapted.device), reads, products, str(shape), (*found, *_weights(adapted, timings)),
        path=str(timings.path),
    )  # fmt: skip


def _forget(adapted: AdaptedModel) -> None:
    """Has a model's weights timed anew: its fused forward is made again."""
    timings = Timings(adapted.device)
    timings.forget()
    timings.save()
    if adapted.fast is not None:
        adapted.fast.release()
        loop.prefill(Sequence(adapted), [0])


def _why_not(kernel: str | None) -> str:
    if choice.fixed() or kernel:
        return f"nothing is timed: an override is given ({kernel or choice.VARIABLE})"
    return "nothing is timed for models this small"


def _rows(shape: Shape) -> Iterator[Timed]:
    for question, (rows, keys), seconds in timed(shape):
        chosen = choice.fastest(question, seconds)
        rate, unit = _rate(question, shape, rows, keys, seconds[chosen])
        yield Timed(question, rows, f"{keys} keys", seconds, chosen, rate, unit)


def _weights(adapted: AdaptedModel, timings: Timings) -> Iterator[Timed]:
    """What was timed of products and norms, of the sizes this model has."""
    sizes = {weight.shape[-1] for weight in adapted.model.parameters()}
    packing = Packing(adapted.model, adapted.pack)
    for subject, seconds in sorted(timings.known().items(), key=_order):
        question, dtype, shape = subject.split(" ", 2)
        if question not in ("product", "norm") or dtype != str(adapted.dtype)[len("torch.") :]:
            continue
        rows, *over = map(int, shape.split("x"))
        if over[0] not in sizes:
            continue
        chosen = _serving(question, rows, over, seconds, packing)
        size = math.prod(over) * adapted.dtype.itemsize
        rate, unit = size / seconds[chosen], "GB/s"
        if question == "norm":
            rate = 2 * rows * size / seconds[chosen]
        elif rows > 1:
            rate, unit = 2 * rows * math.prod(over) / seconds[chosen], "TFLOP/s"
        yield Timed(question, rows, "x".join(map(str, over)), seconds, chosen, rate, unit)


def _serving(question: str, rows: int, over: list[int], seconds: Seconds, packing: Packing) -> str:
    if question == "norm":
        return fastest(seconds)
    inputs, outputs = over
    plain = packing.rows(torch.empty(1, inputs, dtype=torch.bfloat16), outputs)
    return "packed" if plain is None or rows < plain else "plain"


def _order(item: tuple[str, object]) -> tuple[str, list[int]]:
    """Subjects by question, sizes, rows."""
    question, _, shape = item[0].split(" ", 2)
    if question not in ("product", "norm"):
        return question, []
    rows, *over = map(int, shape.split("x"))
    return question, [*over, rows]


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
