"""Kernels that are compiled where they run may fail there: it is said once, and another serves.

A kernel that failed for some shape is not asked for that shape again in this process. Memory that
ran out is no fault of a kernel, and is raised as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise._utils.saying import say_once
from lengthwise.engine.kernels.choice import Shape

T = TypeVar("T")

_FAILED: set[tuple[str, Shape]] = set()


def works(name: str, query: Tensor, key: Tensor) -> bool:
    """Whether a kernel has not failed for such a shape: query `[heads, n, head_dim]`, key
    `[key_heads, m, ...]`."""
    return not _FAILED or (name, Shape.of(query, key)) not in _FAILED


def attempt(name: str, query: Tensor, key: Tensor, call: Callable[[], T]) -> T | None:
    """What a kernel gives, or None where it fails, now or before, for a shape as in `works`."""
    if not works(name, query, key):
        return None
    try:
        return call()
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


__all__ = ["attempt", "works"]
