"""What a recipe is without guessing ahead: the loop whose text a drafted one has to give."""

from __future__ import annotations

from lengthwise.methods.base import Question
from lengthwise.recipes import Recipe


def without_drafters(recipe: Recipe) -> Recipe:
    """What a recipe is without guessing: its plain loop."""
    return Recipe(tuple(m for m in recipe.methods if m.question != Question.DRAFTING))
