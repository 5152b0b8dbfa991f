"""Laws 1 to 6 for every registered method on tiny models of several families, and what its role
asks of it."""

from __future__ import annotations

from lengthwise.methods.base import Method
from lengthwise.recipes.registry import methods, registered
from lengthwise.testing import Check, parametrize_with_checks


@parametrize_with_checks(list(methods().values()))
def test_law(method: type[Method], check: Check) -> None:
    check(method)


def test_everything_registered_can_be_used() -> None:
    assert {item.name: item.error for item in registered() if item.error} == {}


def test_every_method_has_an_identity() -> None:
    """But a grammar, which not every text satisfies, and a search that leaves some texts out."""
    without = [name for name, cls in methods().items() if cls.identity(64) is None]
    assert without == ["asap", "conditional_beam", "grammar"]
