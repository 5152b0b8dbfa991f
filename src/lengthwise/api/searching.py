"""Several texts for one prompt, ranked: a search by the names that transformers has for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lengthwise.api.asking import close_batch, open_batch, require_one
from lengthwise.api.generation import Generation, Options
from lengthwise.api.given import require_count
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt
from lengthwise.errors import LengthwiseError
from lengthwise.recipes import Recipe, RecipeLike, parse, recipe_of


def search_texts(
    model: HeldModel, prompt: Prompt, recipe: RecipeLike, num_return_sequences: int | None,
    searching: Mapping[str, object], options: Options,
) -> Generation:  # fmt: skip
    """See `Model.search`; searching: what was given of a search, by transformers' names."""
    require_one(recipe)
    if num_return_sequences is not None:
        require_count("num_return_sequences", num_return_sequences)
    parsed = _searching(model, recipe_of(recipe), num_return_sequences, searching)
    seed = options.get("seed", 0)
    others = {name: value for name, value in options.items() if name != "seed"}
    batch, rows = open_batch(model, [prompt], [parsed], seed, None, None, **others)  # type: ignore[arg-type]
    batch.read()
    while batch.active:
        batch.step()
    (found,) = close_batch(model, batch, rows)
    return replace(found.require(), drafts=found.drafts[:num_return_sequences])


def _searching(
    model: HeldModel, recipe: Recipe, count: int | None, given: Mapping[str, object]
) -> Recipe:
    """The recipe with a search, which it may have already."""
    given = {name: value for name, value in given.items() if value is not None}
    if model.plan(recipe).mode is not None:
        if given:
            raise LengthwiseError(
                f"{', '.join(given)}: {recipe} says already how its texts are found; give them "
                "as options of its method, or leave them out"
            )
        return recipe
    width = given.get("num_beams", max(4, count or 1))
    if isinstance(count, int) and isinstance(width, int) and count > width:
        raise LengthwiseError(
            f"num_return_sequences={count} of num_beams={width}: a search ends with as many texts "
            "as it has beams; widen it"
        )
    groups = given.get("num_beam_groups", 1)
    diverse = groups != 1 or "diversity_penalty" in given
    words: dict[str, object] = {"width": width}
    if diverse:
        words["groups"] = groups if groups != 1 else 0
    for name in ("length_penalty", "early_stopping", "diversity_penalty"):
        if name in given:
            words[name] = str(given[name]).lower()
    text = ", ".join(f"{name}={value}" for name, value in words.items())
    return Recipe((*recipe.methods, *parse(f"{'dbs' if diverse else 'beam'}({text})").methods))


__all__ = ["search_texts"]
