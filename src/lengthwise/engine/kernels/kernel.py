"""The kernels by name: what each can, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lengthwise.engine.kernels import flash, plain, products, rows, stock, varlen
from lengthwise.engine.kernels.part import Answer, Asked


@dataclass(frozen=True)
class Kernel:
    """A way to attend. serves: whether it can answer this; attend: the answer."""

    serves: Callable[[Asked], bool]
    attend: Callable[[Asked], Answer]


BLOCK: dict[str, Kernel] = {
    "varlen": Kernel(varlen.serves, varlen.attend),
    "flash": Kernel(flash.serves, flash.attend),
    "rows": Kernel(rows.serves, rows.attend),
    "stock": Kernel(stock.serves, stock.attend),
    "products": Kernel(products.serves, products.attend),
    "plain": Kernel(products.serves, plain.plain),
}

__all__ = ["BLOCK", "Kernel"]
