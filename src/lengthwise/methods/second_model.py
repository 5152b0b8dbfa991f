"""A second model beside the one that is held: loaded once, and of the same vocabulary.

No method of its own: what drafters and routers that name a model by an option have in common.
"""

from __future__ import annotations

from lengthwise.engine.speculative.loading import load_draft_model
from lengthwise.errors import Refused
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.tokenization.translation import same_vocabulary


def second_model(
    given: str, path: str, model: AdaptedModel, remedy: str = "use one that has"
) -> AdaptedModel:
    """The model at a path, loaded once per process where the first one lives, in its dtype.

    Args:
        given: the method and its option, as written.
        path: a local folder, a GGUF file, a hub name or a model that was given.
        model: the first one.
        remedy: what to do where the vocabularies differ.

    Raises:
        ModelError: where it cannot be had.
        Refused: where its vocabulary is another one.
    """
    second = load_draft_model(path, model.dtype, model.device)
    if second.model is model.model:
        return model
    if not shared_vocabulary(given, model, second):
        raise Refused(f"{given}: the second model must have this model's vocabulary", remedy)
    return second


def shared_vocabulary(given: str, model: AdaptedModel, second: AdaptedModel) -> bool:
    """Whether a token means the same to both; by size alone where a tokenizer is missing.

    Args:
        given: the method and its option, as written.
        model: the first one.
        second: the other.

    Raises:
        Refused: where a tokenizer is missing and the sizes differ.
    """
    if model.tokenizer is not None and second.tokenizer is not None:
        return same_vocabulary(model.tokenizer, second.tokenizer)
    if model.vocab_size != second.vocab_size:
        raise Refused(
            f"{given}: whether the two models share a vocabulary cannot be told, for one came "
            f"without a tokenizer and the sizes differ ({model.vocab_size:,} and "
            f"{second.vocab_size:,})",
            "give both with their tokenizers: lengthwise.load does, lengthwise.wrap takes one",
        )
    return True


def compared_by_size(name: str, model: AdaptedModel, second: AdaptedModel, so: str) -> list[str]:
    """What the user has to know where two vocabularies were compared by size alone.

    Args:
        name: of the method.
        model: the first one.
        second: the other.
        so: what it means for this method.
    """
    if model.tokenizer is not None and second.tokenizer is not None:
        return []
    return [
        f"{name}: one of the two models came without a tokenizer, so their vocabularies were "
        f"compared by size alone ({model.vocab_size:,}); {so} right only if tokens mean the same "
        "to both"
    ]


__all__ = ["compared_by_size", "second_model", "shared_vocabulary"]
