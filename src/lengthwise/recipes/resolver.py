"""From a recipe to the plan that the engine runs on a model, or a refusal with a way out.

Which methods go together is said in `composition`, and what there is to decide in `methods.slots`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lengthwise.engine.guard import Maker
from lengthwise.engine.plan import Plan
from lengthwise.errors import Refused
from lengthwise.methods import slots
from lengthwise.methods.base import Method
from lengthwise.methods.codecs.pruned import coded
from lengthwise.methods.slots import Slot
from lengthwise.recipes.composition import compose
from lengthwise.recipes.parser import recipe_of
from lengthwise.recipes.piece import Piece
from lengthwise.recipes.recipe import Recipe, RecipeLike
from lengthwise.recipes.registry import find

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.codec import Codec
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts

_FIELDS = frozenset(field.name for field in dataclasses.fields(Plan))


def resolve(recipe: RecipeLike, model: AdaptedModel) -> Plan:
    """The plan of a recipe on a model.

    Args:
        recipe: its text, a Recipe, or a list of methods.
        model: the adapted model that it is to run on.

    Returns:
        What the engine runs.

    Raises:
        RecipeError: where the recipe cannot be parsed.
        Refused: where it cannot run on this model.
    """
    methods = recipe_of(recipe).methods
    pieces = [Piece.of(method, model) for method in methods]
    placement = compose(pieces)
    answers = {
        slot.fills or slot.hook: _answer(slot, pieces, model)
        for slot in slots.SLOTS
        if not slot.joined
    }
    return Plan(
        text=str(Recipe(methods)),
        learned_as=" + ".join(
            piece.name if "start_law" in piece.hooks else str(piece.method) for piece in pieces
        ),
        rule=next((piece.rule for piece in pieces if piece.rule is not None), None),
        placement=placement,
        codec=_codec(pieces),
        **{name: answer for name, answer in answers.items() if name in _FIELDS},
        answers={
            name: answer for name, answer in answers.items() if name not in _FIELDS and answer
        },
        lossless=all(method.lossless for method in methods),
        checks=tuple(
            partial(method.check_prompt, model, placement=placement)
            for method in methods
            if type(method).check_prompt is not Method.check_prompt
        ),
    )


def plan_of(recipe: RecipeLike, model: AdaptedModel) -> Plan:
    """`resolve`, for a prompt that is read as it is given.

    Args:
        recipe: as for `resolve`.
        model: as for `resolve`.

    Raises:
        Refused: as `resolve` does, and for a method that chooses what is read of documents.
    """
    found = recipe_of(recipe)
    if found.prompting is not None:
        raise Refused(
            f"{found.prompting.name} chooses what enters the context, and here the prompt is given "
            "whole",
            "give documents and a question apart: lengthwise.answer(model, document, question, "
            "recipe), `lengthwise run -d FILE` or compare",
        )
    return resolve(found, model)


def _answer(slot: Slot, pieces: Sequence[Piece], model: AdaptedModel) -> Any:
    """What the methods of a recipe say to a slot: what starts the state of one, or of all in a
    tuple; None where nobody does."""
    asked = [piece.method for piece in pieces if slot.hook in piece.hooks]
    given = [
        getattr(method, slot.via)(model) if slot.via else getattr(method, slot.hook)
        for method in asked
    ]
    if slot.per == "model":
        given = [hook(model) for hook in given]
    elif slot.per == "sequence":
        named = zip(asked, given, strict=True)
        given = [Maker(method.name, partial(hook, model)) for method, hook in named]
    if slot.many:
        return tuple(given)
    return given[0] if given else None


def _codec(pieces: Sequence[Piece]) -> Callable[[LayerFacts], Codec | None] | None:
    """What makes the codec of a layer: one method's, or a choice of channels and a format."""
    whole, channels, format = (
        _owner(pieces, hook) for hook in ("start_codec", "start_channels", "start_format")
    )
    if channels is None or format is None:
        one = whole or channels or format
        return one.start_codec if one else None

    def start(layer: LayerFacts) -> Codec | None:
        return coded(channels.start_channels(layer), format.start_format(layer))

    return start


def assisted(recipe: RecipeLike, assistant: object) -> Recipe:
    """A recipe with a second model that guesses: one that is held already, not a path.

    Args:
        recipe: as for `resolve`.
        assistant: the second model, see `drafting_model`.
    """
    from lengthwise.engine.speculative.loading import drafting_model

    return Recipe((*recipe_of(recipe).methods, find("model")(path=drafting_model(assistant))))  # type: ignore[call-arg]


def _owner(pieces: Sequence[Piece], hook: str) -> Method | None:
    return next((piece.method for piece in pieces if hook in piece.hooks), None)


__all__ = ["assisted", "plan_of", "resolve"]
