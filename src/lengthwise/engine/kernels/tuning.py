"""Times the kernels that a model will need on this machine, once, for a few shapes.

Some seconds for the first model of a shape; afterwards a file in the cache folder is read
(`_utils.timings`). What was timed goes to `choice`, which is asked at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from lengthwise._utils.timings import Timed, Timings, Ways, drawn
from lengthwise.engine.kernels import choice, flash, flex, gather, varlen
from lengthwise.engine.kernels.choice import KERNELS, Shape
from lengthwise.engine.kernels.compiled import INTERPRETED, runs
from lengthwise.engine.kernels.kernel import BLOCK, answer, tried
from lengthwise.engine.kernels.part import Asked, Chosen, Part
from lengthwise.engine.kernels.products import PRODUCTS, VALUE_PRODUCTS, one_softmax
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.quantised import numbers

# Models with fewer parameters are done before their kernels are timed.
SMALL = 1 << 24
# (queries, keys): a tree, a piece of a selection, a chunk of a prompt, one of a long prompt.
BLOCKS = (
    (16, 256), (16, 4096), (128, 512), (128, 4096), (1024, 1024), (1024, 4096), (512, 16384),
)  # fmt: skip
# (tokens, keys) of a step, and of products; the heads of a group are so many rows each.
STEPS = ((1, 256), (1, 1024), (1, 4096), (1, 32768), (8, 256), (8, 4096))
SCORES = ((1, 256), (1, 4096), (1, 32768), (8, 1024), (64, 1024), (512, 4096))
VALUES = ((1, 256), (1, 4096), (1, 32768), (8, 4096))
# (queries, keys) of a selection, of which one in so many is chosen, for each query head.
CHOICES = ((1, 4096), (1, 32768), (128, 4096))
SPARSE = 8
# Entries that a cache has room for behind those that it holds.
ROOM = 256

# A shape, rows, keys -> what can be timed there.
WaysOf = Callable[[Shape, int, int], Ways]


def tune(model: AdaptedModel, again: bool = False) -> Timings | None:
    """Times what the first layer of this model needs; None for a small model, or on other devices
    than CPUs and CUDA GPUs.

    Args:
        model: whose heads and dtype are timed.
        again: whether a shape that is known to this process is looked up again, and what its file
            lacks timed.
    """
    device, shape = model.device, shape_of(model)
    small = numbers(model.model) < SMALL
    if small or device.type not in ("cpu", "cuda") or choice.fixed():
        return None
    if choice.known(shape) and not again:
        return None
    timings, folded = Timings(device), _folded(shape)
    group, softcap = shape.heads // shape.key_heads, model.layers[0].softcap
    capped = "" if softcap is None else " capped"
    with torch.inference_mode():
        # Plain products come first: the others are timed with the best of them.
        for question, spots, ways in (
            ("scores", SCORES, _score_ways), ("values", VALUES, _value_ways),
            ("step", STEPS, _step_ways),
        ):  # fmt: skip
            each = ((tokens * group, keys) for tokens, keys in spots)
            _time(question, folded, each, ways, timings)
        _time("block", shape, BLOCKS, partial(_block_ways, softcap=softcap), timings, capped)
        if _triton(shape):
            _time("chosen", shape, CHOICES, _chosen_ways, timings)
    timings.save()
    return timings


def shape_of(model: AdaptedModel) -> Shape:
    """What is timed for a model: its first layer."""
    facts = model.layers[0]
    heads, key_heads = facts.num_heads, facts.num_kv_heads
    return Shape(model.device.type, model.dtype, heads, key_heads, facts.head_dim)


def _time(
    question: str,
    shape: Shape,
    spots: Iterable[tuple[int, int]],
    ways: WaysOf,
    timings: Timings,
    kind: str = "",
) -> None:
    """Times a question at some (rows, keys), and has `choice` remember it. kind: what sets a
    model's answers apart from others of its shape."""
    found = {}
    for rows, keys in spots:
        subject = f"{question}{kind} {shape} {rows}x{keys}"
        found[rows, keys] = timings.seconds(subject, partial(ways, shape, rows, keys))
    choice.remember(question, shape, found)


def _triton(shape: Shape) -> bool:
    """Whether Triton serves there, and is not interpreted: else some questions have one answer."""
    return runs(shape.device, shape.dtype, shape.head_dim) and not INTERPRETED


def _score_ways(shape: Shape, rows: int, keys: int) -> Ways:
    query, key, _ = _made(shape, rows, keys)
    return {name: partial(way, query, key) for name, way in PRODUCTS.items()}


def _value_ways(shape: Shape, rows: int, keys: int) -> Ways:
    weights = torch.softmax(
        drawn(shape.heads, rows, keys, dtype=shape.dtype, device=shape.device), -1
    )
    _, _, value = _made(shape, rows, keys)
    return {name: partial(way, weights, value) for name, way in VALUE_PRODUCTS.items()}


def _step_ways(shape: Shape, rows: int, keys: int) -> Ways:
    query, key, value = _made(shape, rows, keys)
    ways: dict[str, Callable[[], object]] = {
        "products": partial(one_softmax, query, key, value, 0.125)
    }
    if flash.can(query, value):
        ways["flash"] = partial(flash.flash, query, key, value, None, False, 0.125)
    if varlen.can(query, key, value):
        one = query.reshape(-1, 1, query.shape[-1])
        ways["varlen"] = partial(varlen.flash, one, key, value, False, 0.125)
    return ways


def _block_ways(shape: Shape, queries: int, keys: int, softcap: float | None = None) -> Ways:
    """Queries of a chunk behind what was read before, those of its own causal."""
    asked = Asked([Part(*_made(shape, queries, keys), None, causal=True)], 0.125, softcap)
    return {
        name: partial(kernel.attend, asked)
        for name, kernel in BLOCK.items()
        if name != "plain" and kernel.serves(asked) and _works(name, asked)
    }


def _chosen_ways(shape: Shape, queries: int, keys: int) -> Ways:
    """Some keys of each query head, read in place or copied first."""
    query, key, value = _made(shape, queries, keys)
    ids = torch.arange(0, keys, SPARSE, device=shape.device).expand(shape.heads, -1)
    asked = Chosen(query, key, value, ids.contiguous())
    ways: dict[str, Callable[[], object]] = {
        "copy": lambda: answer(Asked([asked.part()], 0.125, need_lse=True))
    }
    if gather.attend(asked, 0.125) is not None:
        ways["gather"] = partial(gather.run, asked, 0.125)
    return ways


def _works(name: str, asked: Asked) -> bool:
    """Whether a kernel that is compiled where it runs does so here; what is interpreted is not
    timed."""
    if not BLOCK[name].compiled:
        return True
    if name == flex.NAME and asked.softcap is None:
        return False  # It takes seconds to compile, and nothing needs it.
    return not INTERPRETED and tried(name, asked) is not None


def _folded(shape: Shape) -> Shape:
    """The heads of a group as rows of their key head."""
    return Shape(shape.device, shape.dtype, shape.key_heads, shape.key_heads, shape.head_dim)


def _made(shape: Shape, rows: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value; keys and values lie as a cache's do, with room behind each head."""

    def normal(heads: int, count: int, room: int = 0) -> Tensor:
        size = heads, count + room, shape.head_dim
        return drawn(*size, dtype=shape.dtype, device=shape.device)[:, :count]

    key, value = (normal(shape.key_heads, keys, ROOM) for _ in range(2))
    return normal(shape.heads, rows), key, value


def timed(shape: Shape) -> Iterator[Timed]:
    """What is known of each question now.

    Of a block the products of queries with the keys they see, and with the values, are counted; of
    the others the bytes that are read of keys, and of values where they are.
    """
    for question in KERNELS:
        of = shape if question in ("block", "chosen") else _folded(shape)
        for (rows, keys), seconds in choice.known_seconds(question, of).items():
            if question == "block":
                seen = rows * (keys - rows) + rows * (rows + 1) / 2
                amount, unit = 4 * shape.heads * seen * shape.head_dim, "TFLOP/s"
            elif question == "chosen":
                each = shape.heads * (keys // SPARSE) * shape.head_dim * shape.dtype.itemsize
                amount, unit = 2 * each, "GB/s"
            else:
                each = shape.key_heads * keys * shape.head_dim * shape.dtype.itemsize
                amount, unit = each * (2 if question == "step" else 1), "GB/s"
            chosen = choice.fastest(question, seconds)
            yield Timed(question, rows, f"{keys} keys", seconds, chosen, amount, unit)


__all__ = ["shape_of", "timed", "tune"]
