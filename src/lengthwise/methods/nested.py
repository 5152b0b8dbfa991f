"""A recipe inside a recipe, for methods that take one as an option: `window(recipe="snapkv")`.

Recipes stand above methods and import them, so a method is handed what reads recipes instead of
importing it. The room of recipes entrusts it here when it is imported, which it is wherever a
recipe is read or a method is found by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lengthwise.engine.plan import Plan
    from lengthwise.methods.base import Method
    from lengthwise.models.adapted_model import AdaptedModel


class RecipeReader(Protocol):
    """What reads recipes."""

    def methods(self, recipe: str) -> tuple[Method, ...]:
        """The methods of a recipe. Raises RecipeError."""
        ...

    def plan(self, recipe: str, model: AdaptedModel) -> Plan:
        """The plan of a recipe on a model. Raises Refused."""
        ...


_readers: list[RecipeReader] = []


def entrust(reader: RecipeReader) -> None:
    """Has recipes inside recipes read by this reader from now on."""
    _readers[:] = [reader]


def methods_of(recipe: str) -> tuple[Method, ...]:
    """The methods of a recipe that an option gives. Raises RecipeError."""
    return _reader().methods(recipe)


def plan_of(recipe: str, model: AdaptedModel) -> Plan:
    """The plan of a recipe that an option gives. Raises Refused where it cannot run."""
    return _reader().plan(recipe, model)


def _reader() -> RecipeReader:
    if not _readers:
        raise RuntimeError("nobody reads recipes yet: import lengthwise.recipes first")
    return _readers[0]


__all__ = ["RecipeReader", "entrust", "methods_of", "plan_of"]
