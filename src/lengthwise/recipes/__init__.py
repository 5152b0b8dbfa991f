"""Recipes: text to methods to a plan, and the registry that knows the methods."""

from lengthwise.recipes.parser import (
    Recipe,
    RecipeLike,
    assisted,
    is_one,
    parse,
    recipe_of,
    recipes_of,
    resolve,
)

__all__ = [
    "Recipe", "RecipeLike", "assisted", "is_one", "parse", "recipe_of", "recipes_of", "resolve",
]  # fmt: skip
