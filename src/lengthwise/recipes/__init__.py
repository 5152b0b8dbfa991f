"""Recipes: one answer per question, written as a person would say it.

    yarn(factor=4) + infllm(budget=2048) + kivi(bits=4)

    text --parser--> Recipe --composition--> may run together --resolver--> Plan of the engine
              `-- registry: the methods there are, each imported when it is used

`recipe` is what a recipe is. `full` is the empty one. What cannot run together is refused with the
reason and a way out, before anything is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lengthwise.methods import nested
from lengthwise.recipes.parser import parse, recipe_of, recipes_of
from lengthwise.recipes.recipe import Recipe, RecipeLike, is_one

if TYPE_CHECKING:
    from lengthwise.engine.plan import Plan
    from lengthwise.methods.base import Method
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.recipes.resolver import assisted, plan_of, resolve

__all__ = [
    "Recipe", "RecipeLike", "assisted", "is_one", "parse", "plan_of", "recipe_of", "recipes_of",
    "resolve",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # A plan is the engine's, and the engine imports torch: reading a recipe should not wait for it.
    if name in ("assisted", "plan_of", "resolve"):
        from lengthwise.recipes import resolver

        return getattr(resolver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Reader:
    """Reads recipes for methods that take one as an option, and stand below this room."""

    def methods(self, recipe: str) -> tuple[Method, ...]:
        return parse(recipe).methods

    def plan(self, recipe: str, model: AdaptedModel) -> Plan:
        from lengthwise.recipes.resolver import plan_of

        return plan_of(recipe, model)


nested.entrust(_Reader())
