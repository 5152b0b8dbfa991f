"""A model of any kind as workflows see it: as text, and by what tells it from others."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from lengthwise._utils.outputs import exists
from lengthwise.api.model import Model
from lengthwise.api.remote_model import RemoteModel, prompting_alone
from lengthwise.api.text_model import GREEDY, LocalText
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.methods.prompts import TextModel
from lengthwise.recipes import RecipeLike, recipe_of


def as_text_model(
    model: Model | TextModel, recipe: RecipeLike = "full", sampling: Sampling = GREEDY
) -> TextModel:
    """A model as text goes in and out of it.

    Args:
        model: one of ours, or a text model, whose recipe is its own.
        recipe: under which one of ours reads and writes.
        sampling: how one of ours chooses tokens.

    Raises:
        LengthwiseError: for what is no model, and a recipe beside a text model.
        Refused: as in `require_writing`.
    """
    if isinstance(model, Model):
        require_writing(recipe)
        return LocalText(model, model.plan(recipe), sampling=sampling)
    if isinstance(model, LocalText):
        return LocalText(model.model, model.plan, model.chunk, sampling)
    if isinstance(model, RemoteModel):
        if recipe_of(recipe).methods:
            require_writing(recipe)
            prompting_alone(model, recipe_of(recipe))
        # Servers of OpenAI's own kind take no repetition penalty; it is sent where it is asked for.
        given = {k: v for k, v in asdict(sampling).items() if v != getattr(GREEDY, k)}
        return model.sampled(given)
    if not callable(getattr(model, "write", None)) or not callable(getattr(model, "spans", None)):
        raise LengthwiseError(
            f"a {type(model).__name__} is no model: give one of lengthwise.load, wrap or connect"
        )
    return model


def require_writing(recipe: RecipeLike) -> None:
    """Refuses a recipe under which no prompt is read whole and written on.

    Args:
        recipe: its text, a parsed one, or its methods.

    Raises:
        RecipeError: where it cannot be parsed.
        Refused: for one that chooses what is read of a document, or sets documents apart.
    """
    parsed = recipe_of(recipe)
    if parsed.prompting is not None or parsed.reads_apart:
        raise Refused(
            f"{parsed} is for documents, and here prompts come whole",
            "use a recipe that reads all of a prompt, such as full, or snapkv + lookup",
        )


def identity(model: TextModel) -> str:
    """What tells a model from others: its name and, of one that runs here, weights and dtype.

    Args:
        model: any. Of a file or folder the last name counts: it may lie elsewhere the next time.
    """
    if not isinstance(model, LocalText):
        return model.name
    adapted, place = model.model.adapted, Path(os.path.expanduser(model.name))
    name = place.resolve().name if exists(place) else model.name
    return f"{name} {fingerprint_now(adapted)} {adapted.dtype_text}"


__all__ = ["as_text_model", "identity", "require_writing"]
