"""How a tokenizer cuts numbers ("Tokenization counts", arXiv 2402.14903, 2024).

    from the left    1234567 is 123 456 7
    from the right   1234567 is 1 234 567
    single           every digit is a token
    by merges        as frequent numbers happened to be merged

Sums are far easier where groups are cut from the right, as thousands are written: from the left, a
digit more shifts every group.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass

from lengthwise.tokenization.opened import OpenTokenizer

LONGEST = 12
_EACH = 24
_SURE = 0.99


@dataclass(frozen=True, slots=True)
class DigitFigures:
    """direction: one of the four of this module, or "unknown". longest: digits of the longest
    token. per_token: digits a token over all numbers. left, right: shares of the numbers that are
    cut in groups of `longest` from there. example: the groups of 1234567."""

    direction: str
    longest: int
    per_token: float
    left: float
    right: float
    example: tuple[str, ...]


def measure_digits(tokenizer: OpenTokenizer, seed: int = 0) -> DigitFigures:
    """How numbers of 1 to 12 digits are cut.

    Args:
        tokenizer: whose bytes of tokens are told.
        seed: of the numbers.
    """
    rng = random.Random(seed)
    numbers = [
        str(rng.randrange(10 ** (size - 1), 10**size))
        for size in range(1, LONGEST + 1)
        for _ in range(_EACH)
    ]
    encoded = tokenizer.encode([f"= {number}" for number in ["1234567", *numbers]])
    example, *groups = [digit_groups(tokenizer, ids) for ids in encoded]
    sizes = [[len(group) for group in each] for each in groups]
    if not all(sizes):
        return DigitFigures("unknown", 0, 0.0, 0.0, 0.0, tuple(example))
    longest = max(size for each in sizes for size in each)
    # Where the groups come out even, both directions cut alike.
    telling = [each for each in sizes if sum(each) > longest and sum(each) % longest]
    left = _share(telling, lambda each: each == from_left(sum(each), longest))
    right = _share(telling, lambda each: each == from_left(sum(each), longest)[::-1])
    direction = "by merges"
    if longest == 1:
        direction = "single"
    elif left >= _SURE:
        direction = "from the left"
    elif right >= _SURE:
        direction = "from the right"
    tokens = sum(map(len, sizes))
    return DigitFigures(
        direction, longest, sum(map(sum, sizes)) / tokens, left, right, tuple(example)
    )


def digit_groups(tokenizer: OpenTokenizer, ids: Seq[int]) -> list[str]:
    """The digits of each token that has any.

    Args:
        tokenizer: whose bytes of tokens are told.
        ids: of a text with one number.
    """
    found = []
    for token in ids:
        text = (tokenizer.spelled[token] or b"").decode("utf-8", "ignore")
        digits = "".join(each for each in text if each.isdigit())
        if digits:
            found.append(digits)
    return found


def from_left(digits: int, group: int) -> list[int]:
    """Sizes of groups that are cut from the left.

    Args:
        digits: of the number.
        group: digits of a whole group.
    """
    whole, rest = divmod(digits, group)
    return [group] * whole + [rest] * (rest > 0)


def _share(groups: Seq[Seq[int]], fits: Callable[[Seq[int]], bool]) -> float:
    return sum(map(fits, groups)) / len(groups) if groups else 0.0


__all__ = ["DigitFigures", "digit_groups", "from_left", "measure_digits"]
