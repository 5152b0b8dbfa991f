"""Which model drafts: a second one, or some of the target's own layers.

No method of its own. Some drafters do more than run a model: they join its guesses with retrieved
ones, or teach it. They choose the model by the same two options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.loading import doubt, load_draft_model
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.drafting._shared.layer_skip_scorer import LayerSkipScorer
from lengthwise.methods.drafting._shared.layer_subset import kept_layers, layer_subset
from lengthwise.methods.drafting._shared.model_drafter import Scorer
from lengthwise.methods.options import option
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.tokenization.translation import same_vocabulary

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
    found = []
    if model.tokenizer is None or draft.tokenizer is None:
        found.append(
            f"{name}: one of the two models came without a tokenizer, so their vocabularies were "
            f"compared by size alone ({model.vocab_size:,}); guesses are right only if tokens mean "
            "the same to both"
        )
    if (reason := doubt(draft)) is not None:
        found.append(f"{name}: the second model may guess badly: {reason}")
    return found


def second_model(name: str, path: str, model: AdaptedModel) -> AdaptedModel:
    """The model at a path, loaded once per process where the target lives, in its dtype.

    Raises ModelError where it cannot be had, Refused where its vocabulary is another one.
    """
    draft = load_draft_model(path, model.dtype, model.device)
    if draft.model is model.model:
        return model
    if not shared_vocabulary(f"{name}(path={path})", model, draft):
        raise Refused(
            f"{name}(path={path}): the second model must have this model's vocabulary",
            "use one that has, or model(path=...), which translates",
        )
    return draft


def shared_vocabulary(given: str, model: AdaptedModel, draft: AdaptedModel) -> bool:
    """Whether a token means the same to both; by size alone where a tokenizer is missing.

    Raises Refused where one is missing and the sizes differ.
    """
    if model.tokenizer is not None and draft.tokenizer is not None:
        return same_vocabulary(model.tokenizer, draft.tokenizer)
    if model.vocab_size != draft.vocab_size:
        raise Refused(
            f"{given}: whether the two models share a vocabulary cannot be told, for one came "
            f"without a tokenizer and the sizes differ ({model.vocab_size:,} and "
            f"{draft.vocab_size:,})",
            "give both with their tokenizers: lengthwise.load does, lengthwise.wrap takes one",
        )
    return True


def draft_model(name: str, path: str, layers: str, model: AdaptedModel) -> AdaptedModel:
    """The chosen draft model; made of the target's layers it shares their weights."""
    if path:
        return second_model(name, path, model)
    return layer_subset(model, kept_layers(layers, model))


__all__ = [
    "LAYERS", "OpenScorer", "draft_model", "draft_model_notes", "layers_option",
    "notes", "one_choice", "open_scorer", "path_option", "second_model",
    "shared_vocabulary",
]  # fmt: skip
