"""A model as an interpreter and a notebook show it, and what is said of what is none."""

from __future__ import annotations

import html

from torch import nn

from lengthwise.api.held_model import HeldModel
from lengthwise.errors import LengthwiseError
from lengthwise.models.quantised import numbers


def facts(model: HeldModel) -> dict[str, str]:
    """What a user wants to know of a model, by name."""
    adapted, provenance = model.adapted, model.provenance
    weights = numbers(adapted.model)
    tokenizer = (
        "none: give token ids" if model.tokenizer is None else type(model.tokenizer).__name__
    )
    return {
        "family": adapted.family,
        "parameters": _count(weights),
        "layers": str(len(adapted.layers)),
        "dtype": adapted.dtype_text,
        "device": str(adapted.device),
        "trained to": f"{model.trained_length:,} tokens",
        "tokenizer": tokenizer,
        "from": str(provenance.source),
    }


def as_text(model: HeldModel) -> str:
    known = facts(model)
    return (
        f"<Model {model.name}: {known['family']}, {known['parameters']} parameters, "
        f"{known['dtype']} on {known['device']}, trained to {known['trained to']}"
        + ("" if model.tokenizer is not None else ", no tokenizer")
        + ">"
    )


def as_html(model: HeldModel) -> str:
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in facts(model).items()
    )
    return f"<table><caption>{html.escape(model.name)}</caption>{rows}</table>"


def _count(weights: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if weights >= size:
            return f"{weights / size:.1f}{letter}"
    return str(weights)


def require_model(model: object, tokenizer: object) -> None:
    """Refuses what `wrap` cannot take, with what to give instead.

    Args:
        model: what stands for a model of transformers.
        tokenizer: what stands for its tokenizer; None is none.

    Raises:
        LengthwiseError: for anything else.
    """
    if hasattr(model, "adapted"):
        raise LengthwiseError("this model is wrapped already: use it as it is")
    if isinstance(model, nn.Module):
        _require_tokenizer(tokenizer)
        return
    what = "None" if model is None else f"a {type(model).__name__}"
    way = "give that name to lengthwise.load, or " if isinstance(model, str) else ""
    raise LengthwiseError(
        f"wrap takes a model of transformers and was given {what}: {way}give what "
        "AutoModelForCausalLM.from_pretrained returns"
    )


def _require_tokenizer(tokenizer: object) -> None:
    able = all(callable(getattr(tokenizer, name, None)) for name in ("encode", "decode"))
    if tokenizer is None or (able and not isinstance(tokenizer, (str, bytes))):
        return
    raise LengthwiseError(
        f"wrap was given a tokenizer of type {type(tokenizer).__name__}: give what "
        "AutoTokenizer.from_pretrained returns, or leave it out and give token ids"
    )
