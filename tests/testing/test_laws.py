"""Laws 1 to 6 for every registered method on tiny models of several families, and what its role
asks of it.

`make test` tries a method on the first family and on one other, which is not the same for all; on
the rest it is tried by `make slow`.
"""

from __future__ import annotations

from zlib import crc32

import pytest

from lengthwise.methods.base import Method
from lengthwise.recipes.registry import methods, registered
from lengthwise.testing import FAMILIES, Check, checks_for

CASES = [case for each in methods().values() for case in checks_for(each)]


def soon(method: type[Method]) -> tuple[str, str]:
    """The families that `make test` tries a method on."""
    first, *others = FAMILIES
    return first, others[crc32(method.name.encode()) % len(others)]


@pytest.mark.parametrize(
    ("method", "check"),
    [
        pytest.param(
            method, check, id=f"{method.name}-{check}",
            marks=[] if check.family in soon(method) else pytest.mark.slow,
        )
        for method, check in CASES
    ],
)  # fmt: skip
def test_law(method: type[Method], check: Check) -> None:
    check(method)


def test_every_family_is_tried_soon() -> None:
    assert {family for method, _ in CASES for family in soon(method)} == set(FAMILIES)


def test_everything_registered_can_be_used() -> None:
    assert {item.name: item.error for item in registered() if item.error} == {}


def test_every_method_has_an_identity() -> None:
    """But a grammar, which not every text satisfies, and a search that leaves some texts out."""
    without = [name for name, cls in methods().items() if cls.identity(64) is None]
    assert without == ["asap", "conditional_beam", "grammar"]
