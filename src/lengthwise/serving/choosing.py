"""What a call's fields say of how its texts are chosen: constraints, beams, the best of several."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lengthwise.api.held_model import HeldModel
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.decoding.structured_output import FIELDS, structured_output
from lengthwise.recipes import Recipe, parse
from lengthwise.serving.errors import ApiError
from lengthwise.serving.naming import Chosen
from lengthwise.serving.protocol import Common


@dataclass(frozen=True)
class Choices:
    """Which texts become choices of an answer.

    n: how many of each prompt. written: texts that are written for them. beams: the texts of one
    search are the choices.
    """

    n: int
    written: int
    beams: bool = False

    @property
    def ranked(self) -> bool:
        """Whether texts are left out, the least likely ones."""
        return self.written > self.n


def choices_of(request: Common) -> Choices:
    """Which texts a call wants.

    Args:
        request: of a chat or of texts.

    Raises:
        ApiError: for fields that do not go together.
    """
    n, best_of = request.n or 1, request.best_of or request.n or 1
    if best_of < n:
        raise ApiError(
            400, "invalid_value", f"best_of={best_of} texts are fewer than n={n} of them; give "
            f"best_of={n} or more", "best_of",
        )  # fmt: skip
    beams = bool(request.use_beam_search)
    if request.length_penalty is not None and not beams:
        raise ApiError(
            400, "invalid_value", "length_penalty is for beams: give use_beam_search=true, or "
            "leave it out", "length_penalty",
        )  # fmt: skip
    name = "use_beam_search" if beams else "best_of"
    if request.stream and (beams or best_of > n):
        raise ApiError(
            400, "invalid_value", f"{name} ranks whole texts, and a stream cannot wait for them; "
            "leave stream out", name,
        )  # fmt: skip
    return Choices(n, 1 if beams else best_of, beams)


def with_fields(request: Common, chosen: Chosen, model: HeldModel) -> Chosen:
    """The recipe of a call, with the methods that its fields stand for.

    Args:
        request: of a chat or of texts.
        chosen: the recipe that it names.
        model: whose vocabulary a grammar is compiled for.

    Raises:
        ApiError: for a schema that is none, and fields that do not go with the recipe.
    """
    methods = list(chosen.recipe.methods)
    given = request.model_dump(include=set(FIELDS), exclude_none=True)
    field = next(iter(given), None)
    try:
        made = structured_output(given)
        if made is not None:
            methods.append(made)
            made.check(model.adapted)
    except RecipeError as error:
        said = str(error)
        said = said if said.startswith(tuple(given)) else f"{field}: {said}"
        raise ApiError(400, "invalid_value", said, field) from None
    if request.use_beam_search:
        width = max(request.n or 1, request.best_of or 1)
        penalty = 1.0 if request.length_penalty is None else request.length_penalty
        methods += parse(f"beam(width={width}, length_penalty={penalty})").methods
    try:
        return replace(chosen, recipe=Recipe(tuple(methods)))
    except LengthwiseError as error:
        raise ApiError(422, "recipe_invalid", str(error), "recipe") from None


__all__ = ["Choices", "choices_of", "with_fields"]
