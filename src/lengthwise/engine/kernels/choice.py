"""Which kernel serves: the fastest one of those timed on this machine (`tuning`).

Seven questions are asked, each of rows over keys:

- `block`: queries of a chunk or a tree over parts of any rule;
- `step`: rows that all see all keys of one part, as those of a single new token do;
- `scores`: how plain products multiply rows by keys;
- `values`: how they multiply weights by values;
- `chosen`: queries over some keys out of many, read where they lie or copied;
- `coded`: queries over what a codec holds, read as it is stored or decoded first;
- `groups`: a new token over heads that keep unequal numbers of keys, all at once or in turn.

The last two are not timed.

Nothing is timed for small models, nor before `tuning.tune` ran. Then the first name serves that
can.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from math import log2

import torch
from torch import Tensor

from lengthwise._utils.suggestions import closest
from lengthwise._utils.timings import VARIABLE
from lengthwise.errors import LengthwiseError

# The kernels of each question, first the one that serves where nothing was timed.
KERNELS: dict[str, tuple[str, ...]] = {
    "block": ("varlen", "flash", "triton", "products", "rows", "stock", "flex", "plain"),
    "step": ("varlen", "flash", "products", "plain"),
    "scores": ("wide", "narrow", "by_head"),
    "values": ("wide", "by_head"),
    "chosen": ("gather", "copy"),
    "coded": ("dequantise", "decode"),
    "groups": ("ragged", "turns"),
}
# Another kernel than the first has to be this much faster: so near, either may win the next time.
MARGIN = 0.95


@dataclass(frozen=True)
class Shape:
    """What decides beside rows and keys: heads may be those of the query, or of the keys."""

    device: str
    dtype: torch.dtype
    heads: int
    key_heads: int
    head_dim: int

    @classmethod
    def of(cls, query: Tensor, key: Tensor) -> Shape:
        return cls(query.device.type, query.dtype, len(query), len(key), key.shape[-1])

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.device} {dtype} {self.heads}/{self.key_heads}x{self.head_dim}"


# By question and shape: (rows, keys) and the seconds of each kernel that can.
Seconds = Mapping[str, float]
_TIMED: dict[tuple[str, Shape], dict[tuple[int, int], Seconds]] = {}
_SPOTS: dict[tuple[object, ...], tuple[str, ...]] = {}
_WANTED: ContextVar[str | None] = ContextVar("wanted", default=None)


def remember(question: str, shape: Shape, seconds: Mapping[tuple[int, int], Seconds]) -> None:
    """Takes what was timed, at (rows, keys)."""
    _TIMED[question, shape] = dict(seconds)
    _SPOTS.clear()


def known(shape: Shape) -> bool:
    """Whether this shape was timed."""
    return ("block", shape) in _TIMED


def known_seconds(question: str, shape: Shape) -> Mapping[tuple[int, int], Seconds]:
    """What was timed, by (rows, keys)."""
    return _TIMED.get((question, shape), {})


def order(question: str, query: Tensor, key: Tensor) -> tuple[str, ...]:
    """The kernels of a question, the best first, for query `[heads, rows, d]` over key
    `[key_heads, keys, d]`, or weights over values. Not all of them can serve every query."""
    rows, keys = query.shape[1].bit_length(), key.shape[1].bit_length()
    wanted = _WANTED.get()
    spot = (
        question, wanted, rows, keys, query.device.type, query.dtype, len(query), len(key),
        key.shape[-1],
    )  # fmt: skip
    found = _SPOTS.get(spot)
    if found is None:
        found = _SPOTS[spot] = _order(question, wanted, Shape.of(query, key), rows, keys)
    return found


def chosen(question: str, query: Tensor, key: Tensor) -> str:
    """The first of `order`, where all of them can serve."""
    return order(question, query, key)[0]


def _order(
    question: str, wanted: str | None, shape: Shape, rows: int, keys: int
) -> tuple[str, ...]:
    names = _by_speed(question, _nearest(_alike(question, shape), rows, keys))
    first = _override().get(question)
    if first is None:
        return names
    return (first, *(name for name in names if name != first))


def _alike(question: str, shape: Shape) -> Mapping[tuple[int, int], Seconds]:
    """What was timed of this shape, or of the one most like it: some heads of a layer, as those of
    a group that keeps less, go by the whole layer."""
    there = {
        other: seconds
        for (asked, other), seconds in _TIMED.items()
        if (asked, other.device, other.dtype) == (question, shape.device, shape.dtype)
    }
    if not there:
        return {}
    return there[min(there, key=lambda other: _distance(other, shape))]


def _distance(a: Shape, b: Shape) -> float:
    pairs = ((a.head_dim, b.head_dim), (a.heads, b.heads), (a.key_heads, b.key_heads))
    return sum(abs(log2(mine / theirs)) for mine, theirs in pairs)


def _nearest(timed: Mapping[tuple[int, int], Seconds], rows: int, keys: int) -> Seconds:
    """What was timed nearest; rows and keys are given by their bits."""
    if not timed:
        return {}
    return timed[
        min(timed, key=lambda at: abs(log2(at[0]) + 0.5 - rows) + abs(log2(at[1]) + 0.5 - keys))
    ]


def fastest(question: str, seconds: Seconds) -> str:
    """Which of the kernels that were timed serves."""
    return _by_speed(question, seconds)[0]


def _by_speed(question: str, seconds: Seconds) -> tuple[str, ...]:
    names = KERNELS[question]
    first = next((name for name in names if name in seconds), None)
    if first is None:
        return names
    handicap = {name: seconds[name] * (MARGIN if name == first else 1) for name in seconds}
    timed = sorted((name for name in names if name in seconds), key=lambda name: handicap[name])
    return (*timed, *(name for name in names if name not in seconds))


def fixed() -> bool:
    """Whether an override leaves no question open, so that there is nothing to time."""
    return _override().keys() == KERNELS.keys()


def overridden(question: str) -> str | None:
    """The kernel that an override puts first for a question, if one does."""
    return _override().get(question)


def _override() -> dict[str, str]:
    wanted = _WANTED.get()
    return read(wanted if wanted is not None else os.environ.get(VARIABLE, ""))


@lru_cache(maxsize=32)
def read(text: str) -> dict[str, str]:
    """What an override asks for, by question: `flash`, `rows,narrow` or `block=rows,step=products`.

    A name alone holds for every question that has it; "default" is nothing timed, "" no override.

    Raises:
        LengthwiseError: for a name that no question has.
    """
    found: dict[str, str] = {}
    for each in filter(None, map(str.strip, text.split(","))):
        question, _, name = each.rpartition("=")
        if each == "default":
            found |= {question: names[0] for question, names in KERNELS.items()}
            continue
        having = [q for q, names in KERNELS.items() if name in names and question in ("", q)]
        if not having:
            every = sorted({name for names in KERNELS.values() for name in names})
            near = closest(name, every)
            raise LengthwiseError(
                f"kernel {each!r}: there are {', '.join(every)} and default; a question may stand "
                f"before the name ({', '.join(f'{q}=' for q in KERNELS)})"
                + (f"; did you mean {near}?" if near and near != name else "")
            )
        found |= dict.fromkeys(having, name)
    return found


@contextmanager
def using(wanted: str | None) -> Iterator[None]:
    """Within it this override holds and not the variable; None changes nothing."""
    if wanted is None:
        yield
        return
    token = _WANTED.set(wanted)
    try:
        yield
    finally:
        _WANTED.reset(token)


__all__ = [
    "KERNELS", "VARIABLE", "Seconds", "Shape", "chosen", "fastest", "fixed", "known",
    "known_seconds", "order", "overridden", "read", "remember", "using",
]  # fmt: skip
