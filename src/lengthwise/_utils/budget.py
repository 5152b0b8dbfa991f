"""How much may be kept: tokens (`2048`), bytes (`64MB`) or a share of the prompt (`25%`)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from lengthwise.errors import RecipeError

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(%|[KMG]I?B|B)?", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """amount in `unit`: "tokens", "%" or a unit of bytes. Prints as it was written."""

    amount: float
    unit: str = "tokens"

    @classmethod
    def parse(cls, text: str | int | Budget) -> Budget:
        """Reads `2048`, `64MB`, `25%`.

        Args:
            text: a number with its unit. One without a unit counts tokens; a Budget is given back.

        Raises:
            RecipeError: for anything else, and for a budget of nothing.
        """
        if isinstance(text, Budget):
            return text
        match = _PATTERN.fullmatch(str(text).strip())
        if match is None:
            raise RecipeError(
                f"budget {text!r}: allowed are tokens (2048), bytes (64MB) or a share (25%)"
            )
        amount, unit = float(match[1]), (match[2] or "tokens").upper()
        unit = "tokens" if unit == "TOKENS" else unit
        if not math.isfinite(amount * UNITS.get(unit, 1)):
            raise RecipeError(f"budget of {len(match[1])} digits: no machine holds so much")
        if amount <= 0:
            raise RecipeError(f"budget {text!r}: nothing could be kept; give more than 0")
        if unit == "%" and amount > 100:
            raise RecipeError(f"budget {text!r}: a share is at most 100%")
        if unit == "tokens" and amount != int(amount):
            raise RecipeError(f"budget {text!r}: tokens are whole numbers (a share is written 25%)")
        return cls(amount, unit)

    @classmethod
    def of(cls, share: float) -> Budget:
        """The budget of a share of the prompt.

        Args:
            share: above 0 and at most 1, as in 0.25 for `25%`.
        """
        return cls.parse(f"{Decimal(repr(round(100 * share, 6))):f}%")

    def tokens(self, length: int, bytes_per_token: float, floor: int = 1) -> int:
        """Tokens that may be kept of a prompt of `length` tokens (at least 1).

        Args:
            length: tokens of the prompt, of which a share is taken.
            bytes_per_token: what one token takes in all layers that share the budget.
            floor: a share is never fewer tokens than this, so that short prompts are left whole.
        """
        if self.unit == "tokens":
            return int(self.amount)
        if self.unit == "%":
            return max(1, floor, round(length * self.amount / 100))
        return max(1, int(self.amount * UNITS[self.unit] // bytes_per_token))

    def __str__(self) -> str:
        number = f"{Decimal(repr(self.amount)):f}".removesuffix(".0")
        if self.unit in ("tokens", "%"):
            return number + self.unit.removeprefix("tokens")
        return number + self.unit.replace("I", "i")


def bytes_in(text: str) -> int:
    """Reads a number of bytes: 4000000000, or with a unit, 64MB and 2GiB.

    Args:
        text: as a user wrote it.

    Raises:
        RecipeError: for anything else.
    """
    plain = text.strip()
    if plain == "0":
        return 0
    found = Budget.parse(f"{plain}B" if plain.isdecimal() else plain)
    if found.unit not in UNITS:
        raise RecipeError(f"{text!r} is no number of bytes, such as 64MB or 2GiB")
    return int(found.amount * UNITS[found.unit])


__all__ = ["UNITS", "Budget", "bytes_in"]
