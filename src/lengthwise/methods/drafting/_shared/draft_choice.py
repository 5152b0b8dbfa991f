"""Which model drafts: a second one, or some of the target's own layers.

No method of its own. Some drafters do more than run a model: they join its guesses with retrieved
ones, or teach it. They choose the model by the same two options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.loading import doubt
from lengthwise.errors import RecipeError
from lengthwise.methods.drafting._shared.layer_skip_scorer import LayerSkipScorer
from lengthwise.methods.drafting._shared.layer_subset import kept_layers, layer_subset
from lengthwise.methods.drafting._shared.model_drafter import Scorer
from lengthwise.methods.options import option
from lengthwise.methods.second_model import compared_by_size, second_model as beside
from lengthwise.models.adapted_model import AdaptedModel

LAYERS = "80%"

OpenScorer = Callable[[Sequence], Scorer]


def path_option() -> Any:
    return option("", "a second model that guesses: folder, GGUF file, hub name or a given model")


def layers_option() -> Any:
    return option(LAYERS, 'without a path, the layers that guess: 24, 80% or "0-11,18-29"')


def one_choice(name: str, path: str, layers: str) -> None:
    """Raises RecipeError where both a second model and layers are chosen."""
    if path and layers != LAYERS:
        raise RecipeError(
            f"{name}(path={path}, layers={layers}): both say who guesses; give path or layers"
        )


def open_scorer(name: str, path: str, layers: str, model: AdaptedModel) -> OpenScorer:
    """Makes the chosen draft model, and returns what runs it beside a sequence.

    The sequence has read its prompt. Raises RecipeError or Refused where the target has no such
    draft model.
    """
    draft = draft_model(name, path, layers, model)
    if path:
        return lambda sequence: DraftModelRunner.prefilled(draft, sequence.tokens)
    kept = kept_layers(layers, model)
    return lambda sequence: LayerSkipScorer(sequence, draft, kept)


def notes(name: str, path: str, model: AdaptedModel) -> list[str]:
    """What the user has to know of the second model at a path; nothing where there is none."""
    return draft_model_notes(name, model, second_model(name, path, model)) if path else []


def draft_model_notes(name: str, model: AdaptedModel, draft: AdaptedModel) -> list[str]:
    """What the user has to know of a second model that is asked."""
    found = compared_by_size(name, model, draft, "guesses are")
    if (reason := doubt(draft)) is not None:
        found.append(f"{name}: the second model may guess badly: {reason}")
    return found


def second_model(name: str, path: str, model: AdaptedModel) -> AdaptedModel:
    """The model at a path, of this model's vocabulary: see `methods.second_model`."""
    remedy = "use one that has, or model(path=...), which translates"
    return beside(f"{name}(path={path})", path, model, remedy)


def draft_model(name: str, path: str, layers: str, model: AdaptedModel) -> AdaptedModel:
    """The chosen draft model; made of the target's layers it shares their weights."""
    if path:
        return second_model(name, path, model)
    return layer_subset(model, kept_layers(layers, model))


__all__ = [
    "LAYERS", "OpenScorer", "draft_model", "draft_model_notes", "layers_option",
    "notes", "one_choice", "open_scorer", "path_option", "second_model",
]  # fmt: skip
