"""Which model guesses: a second one, or some of the target's own layers.

No method of its own: the drafters that do more than ask a model (fuse its guesses with retrieved
ones, teach it) choose the model by the same two options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lengthwise.engine.scout import Scout
from lengthwise.engine.sequence import Sequence
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.drafting.asking import Scorer
from lengthwise.methods.drafting.translation import same_vocabulary
from lengthwise.methods.options import option
from lengthwise.models.adapt import Adapted

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
    # Method modules, read when a drafter starts: this module is imported by methods.
    from lengthwise.methods.drafting.layers import Glance, thinned

    if path:
        draft = second_model(name, path, model)
        return lambda sequence: Scout.reading(draft, sequence.tokens)
    kept = kept_layers(layers, model)
    return lambda sequence: Glance(sequence, thinned(model, kept), kept)


def second_model(name: str, path: str, model: Adapted) -> Adapted:
    """The model at a path, loaded once per process where the target lives, in its dtype.

    Raises ModelError where it cannot be had, Refused where its vocabulary is another one.
    """
    from lengthwise.methods.drafting.model import SecondModel

    draft = SecondModel(path=path).load(model)
    tokenizers = model.tokenizer, draft.tokenizer
    if None in tokenizers or not same_vocabulary(*tokenizers):  # type: ignore[arg-type]
        raise Refused(
            f"{name}(path={path}): the second model must have this model's vocabulary, and both "
            "must come with their tokenizers",
            "use one that has, or model(path=...), which translates",
        )
    return draft


def kept_layers(layers: str, model: Adapted) -> tuple[int, ...]:
    """The layers an option names, ascending; raises RecipeError where there are none such."""
    from lengthwise.methods.drafting.layers import Layers

    return Layers(keep=layers).kept(model)


def guesser(name: str, path: str, layers: str, model: Adapted) -> Adapted:
    """The chosen guesser as a model of its own, which shares its weights with what it is of."""
    from lengthwise.methods.drafting.layers import thinned

    if path:
        return second_model(name, path, model)
    return thinned(model, kept_layers(layers, model))


__all__ = [
    "LAYERS", "Open", "check_choice", "guesser", "kept_layers", "layers_option", "one_choice",
    "opener", "path_option", "second_model",
]  # fmt: skip
