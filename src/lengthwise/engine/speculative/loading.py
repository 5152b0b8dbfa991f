"""Loads draft models and holds them by name.

What a draft model says is verified, so it is not compared with the stock model, as the target is.
It has to run, and to give finite numbers.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import lru_cache
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from lengthwise._utils.messages import first_line
from lengthwise.engine.kernels.tuning import tune
from lengthwise.errors import LengthwiseError, ModelError, UnsupportedModel
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.load import load_pretrained
from lengthwise.models.plain_attention import plain_attention

# What stands before the name of a model that is no file.
GIVEN = "given:"
# Models without a name of the user's that are held, the latest.
HELD = 4
# Tokens that a drafting model is tried on.
TRIED = 8

# Making one model at a time: two threads that wanted the same one would hold it twice.
LOCK = threading.RLock()


def adapt_draft_model(model: PreTrainedModel, fuse: bool = True) -> AdaptedModel:
    """A model adapted for guessing; raises UnsupportedModel where it does not run under the
    attention hook or what it says is not finite."""
    adapted = adapt(model, fuse, verify=False)
    ids = torch.arange(TRIED, device=adapted.device) % adapted.vocab_size
    positions = torch.arange(TRIED, device=adapted.device)
    try:
        logits = adapted.forward(ids, positions, plain_attention(adapted, positions))
    except Exception as error:  # Whatever a family raises whose layers cannot run alone.
        reason = first_line(error)
        raise UnsupportedModel(adapted.family, f"it does not run ({reason})") from error
    if not bool(torch.isfinite(logits).all()):
        raise UnsupportedModel(adapted.family, "its logits are not finite")
    return adapted


def load_draft_model(path: str | None, dtype: torch.dtype, device: torch.device) -> AdaptedModel:
    """The model at a path, None being the embedded one, with its tokenizer; the last two stay.

    A path may name a model that was given (see `drafting_model`), in a dtype and place of its own.
    """
    with LOCK:
        if path is not None and path.startswith(GIVEN):
            return _given(path)
        return _loaded(path, dtype, device)


@lru_cache(maxsize=2)
def _loaded(path: str | None, dtype: torch.dtype, device: torch.device) -> AdaptedModel:
    model, tokenizer, _ = load_pretrained(path, dtype, device)
    adapted = _adapt_whole(model)
    adapted.tokenizer = tokenizer
    tune(adapted)
    return adapted


def _adapt_whole(model: PreTrainedModel, fuse: bool = True) -> AdaptedModel:
    """A whole model adapted; one that differs from stock guesses all the same, with a word."""
    try:
        return adapt(model, fuse)
    except UnsupportedModel as error:
        adapted = adapt_draft_model(model, fuse=False)
        _DOUBTS[adapted] = error.reason
        return adapted


_DOUBTS: WeakKeyDictionary[AdaptedModel, str] = WeakKeyDictionary()


def doubt(model: AdaptedModel) -> str | None:
    """Why a drafting model may guess badly; None where nothing is known against it."""
    return _DOUBTS.get(model)


_MODELS: OrderedDict[str, tuple[object, AdaptedModel]] = OrderedDict()
_COUNT = 0


def drafting_model(model: object, name: str | None = None) -> str:
    """Holds a model under a path that recipes can name, and returns that path.

    Args:
        model: a transformers model (it is not changed: its forward is not fused), or one that
            lengthwise has wrapped or loaded, with its tokenizer if it has one.
        name: what to call it; held until another model is given under it. None is a number, and
            the latest HELD models with numbers are held.

    Returns:
        The path, for `model(path=...)` and every other drafter that takes one.

    Raises:
        LengthwiseError: for what is no model, or a name that a recipe cannot write.
        UnsupportedModel: where the model cannot run.
    """
    global _COUNT
    if name is not None and not name.isidentifier():
        raise LengthwiseError(f"the name {name!r} of a model: give letters, digits and _ alone")
    with LOCK:
        for path, (known, _) in _MODELS.items():
            if known is model and name is None:
                _MODELS.move_to_end(path)
                return path
        adapted = _adapted(model)
        _COUNT += name is None
        path = GIVEN + (name or str(_COUNT))
        _MODELS[path] = model, adapted
        numbered = [each for each in _MODELS if each.removeprefix(GIVEN).isdecimal()]
        for old in numbered[:-HELD]:
            del _MODELS[old]
        return path


def _adapted(model: object) -> AdaptedModel:
    if isinstance(model, PreTrainedModel):
        return _adapt_whole(model, fuse=False)
    found = model if isinstance(model, AdaptedModel) else getattr(model, "adapted", None)
    if isinstance(found, AdaptedModel):
        return found
    raise LengthwiseError(
        f"a drafting model of type {type(model).__name__}: give a transformers model, or one of "
        "lengthwise.load or lengthwise.wrap"
    )


def _given(path: str) -> AdaptedModel:
    found = _MODELS.get(path)
    if found is None:
        held = ", ".join(_MODELS) or "none"
        raise ModelError(
            f"{path}: no such model is held (held: {held}); give it again with "
            "lengthwise.drafting_model"
        )
    return found[1]


__all__ = ["GIVEN", "LOCK", "adapt_draft_model", "doubt", "drafting_model", "load_draft_model"]
