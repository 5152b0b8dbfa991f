"""Which model guesses: a second one, or some of the target's own layers.

No method of its own: the drafters that do more than ask a model (fuse its guesses with retrieved
ones, teach it) choose the model by the same two options.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from lengthwise.engine.scout import Scout
from lengthwise.engine.sequence import Sequence
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.drafting.asking import Scorer
from lengthwise.methods.drafting.glance import Glance
from lengthwise.methods.drafting.thinning import kept_layers, thinned
from lengthwise.methods.drafting.translation import same_vocabulary
from lengthwise.methods.options import option
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained

LAYERS = "80%"

Open = Callable[[Sequence], Scorer]


def path_option() -> Any:
    return option("", "a second model that guesses: folder, GGUF file or hub name")


def layers_option() -> Any:
    return option(LAYERS, 'without a path, the layers that guess: 24, 80% or "0-11,18-29"')


def one_choice(name: str, path: str, layers: str) -> None:
    """Raises RecipeError where both a second model and layers are chosen."""
    if path and layers != LAYERS:
        raise RecipeError(
            f"{name}(path={path}, layers={layers}): both say who guesses; give path or layers"
        )


def check_choice(name: str, path: str, layers: str, model: Adapted) -> None:
    """Raises RecipeError or Refused where this model has no such guesser."""
    if path:
        second_model(name, path, model)
    else:
        kept_layers(layers, model)


def opener(name: str, path: str, layers: str, model: Adapted) -> Open:
    """What begins to ask the chosen guesser beside a sequence whose prompt has been read."""
    if path:
        draft = second_model(name, path, model)
        return lambda sequence: Scout.reading(draft, sequence.tokens)
    kept = kept_layers(layers, model)
    return lambda sequence: Glance(sequence, thinned(model, kept), kept)


def second_model(name: str, path: str, model: Adapted) -> Adapted:
    """The model at a path, loaded once per process where the target lives, in its dtype.

    Raises ModelError where it cannot be had, Refused where its vocabulary is another one.
    """
    draft = loaded(path, model.dtype, model.device)
    tokenizers = model.tokenizer, draft.tokenizer
    if None in tokenizers or not same_vocabulary(*tokenizers):  # type: ignore[arg-type]
        raise Refused(
            f"{name}(path={path}): the second model must have this model's vocabulary, and both "
            "must come with their tokenizers",
            "use one that has, or model(path=...), which translates",
        )
    return draft


def guesser(name: str, path: str, layers: str, model: Adapted) -> Adapted:
    """The chosen guesser as a model of its own, which shares its weights with what it is of."""
    if path:
        return second_model(name, path, model)
    return thinned(model, kept_layers(layers, model))


@lru_cache(maxsize=2)
def loaded(path: str | None, dtype: torch.dtype, device: torch.device) -> Adapted:
    """The model at a path, None being the embedded one, with its tokenizer; the last two stay."""
    model, tokenizer, _ = load_pretrained(path, dtype, device)
    adapted = adapt(model)
    adapted.tokenizer = tokenizer
    return adapted


__all__ = [
    "LAYERS", "Open", "check_choice", "guesser", "layers_option", "loaded", "one_choice", "opener",
    "path_option", "second_model",
]  # fmt: skip
