"""The kernels by name: what each can, how it is called, and the best of them called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lengthwise.engine.kernels import flash, flex, plain, products, rows, stock, tree, varlen
from lengthwise.engine.kernels.attempts import attempt
from lengthwise.engine.kernels.choice import order
from lengthwise.engine.kernels.part import Answer, Asked


@dataclass(frozen=True)
class Kernel:
    """A way to attend. serves: whether it can answer this; attend: the answer. compiled: where it
    runs, which may fail; another serves then."""

    serves: Callable[[Asked], bool]
    attend: Callable[[Asked], Answer]
    compiled: bool = False


BLOCK: dict[str, Kernel] = {
    "varlen": Kernel(varlen.serves, varlen.attend),
    "flash": Kernel(flash.serves, flash.attend),
    tree.NAME: Kernel(tree.serves, tree.attend, compiled=True),
    flex.NAME: Kernel(flex.serves, flex.attend, compiled=True),
    "rows": Kernel(rows.serves, rows.attend),
    "stock": Kernel(stock.serves, stock.attend),
    "products": Kernel(products.serves, products.attend),
    "plain": Kernel(products.serves, plain.plain),
}


def answer(asked: Asked) -> Answer:
    """By the best kernel that serves, and that works here."""
    widest = max(asked.parts, key=lambda part: part.key.shape[1])
    for name in order("block", widest.query, widest.key):
        kernel = BLOCK[name]
        if not kernel.serves(asked):
            continue
        found = tried(name, asked) if kernel.compiled else kernel.attend(asked)
        if found is not None:
            return found
    raise AssertionError("plain products serve everything")


def tried(name: str, asked: Asked) -> Answer | None:
    """What a kernel answers; None where it is compiled here and fails."""
    widest = max(asked.parts, key=lambda part: part.key.shape[1])
    return attempt(
        name, widest.query, widest.key, lambda: BLOCK[name].attend(asked),
        lambda: plain.plain(asked),
    )  # fmt: skip


__all__ = ["BLOCK", "Kernel", "answer", "tried"]
