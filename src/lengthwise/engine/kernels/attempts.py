"""Kernels that are compiled where they run may fail there: it is said once, and another serves.

What a kernel gives for the first time for some shape is held against its plain twin: compiled for a
device that nobody tried, it may well give numbers, and wrong ones. A kernel that failed for some
shape is not asked for that shape again in this process. Memory that ran out is no fault of a
kernel, and is raised as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise._utils.saying import say_once
from lengthwise.engine.kernels.choice import Shape
from lengthwise.engine.kernels.part import Answer

# How far a kernel may be from its twin, as a share of the size of what both give.
CLOSE = 0.03
# Scores of a question that is still compared: a twin holds all of them.
COMPARED = 1 << 24

_FAILED: set[tuple[str, Shape]] = set()
_PROVEN: set[tuple[str, Shape]] = set()


def works(name: str, query: Tensor, key: Tensor) -> bool:
    """Whether a kernel has not failed for such a shape: query `[heads, n, head_dim]`, key
    `[key_heads, m, ...]`."""
    return not _FAILED or (name, Shape.of(query, key)) not in _FAILED


def attempt(
    name: str, query: Tensor, key: Tensor, call: Callable[[], Answer], twin: Callable[[], Answer]
) -> Answer | None:
    """What a kernel gives, or None where it fails, now or before, for a shape as in `works`.

    twin: what it has to give.
    """
    if not works(name, query, key):
        return None
    try:
        found = call()
        spot = name, Shape.of(query, key)
        if spot not in _PROVEN and _comparable(query, key):
            _require_alike(found, twin())
            _PROVEN.add(spot)
        return found
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Compilers raise what they like.
        if query.is_cuda and torch.cuda.is_current_stream_capturing():
            raise  # Another kernel would be recorded into a graph that is broken.
        shape = Shape.of(query, key)
        _FAILED.add((name, shape))
        say_once(
            f"kernel {name} fails here ({type(error).__name__}: {first_line(error)}); others serve "
            f"{shape} in its place"
        )
        return None


def _comparable(query: Tensor, key: Tensor) -> bool:
    if query.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    return query.shape[0] * query.shape[1] * key.shape[1] <= COMPARED


def _require_alike(found: Answer, right: Answer) -> None:
    """Raises where a kernel gave something else than its twin."""
    for ours, theirs in zip(found, right, strict=True):
        if ours is None or theirs is None:
            continue
        if not torch.equal(ours.isfinite(), theirs.isfinite()):
            raise ArithmeticError("it gives numbers that its plain twin does not")
        ours, theirs = (x.float().nan_to_num(0.0, 0.0, 0.0) for x in (ours, theirs))
        off = float((ours - theirs).norm() / theirs.norm().clamp_min(1e-6))
        if not off <= CLOSE:
            raise ArithmeticError(f"it differs from its plain twin by {off:.1%}")


__all__ = ["attempt", "works"]
