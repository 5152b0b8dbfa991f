"""How many entries a budget pays for, once everything that is stored beside keys and values counts.

A budget is a promise about bytes. Heads that keep different tokens need an index each, and an
observer needs a number an entry. With narrow heads in bf16 that is 3% and more. So a budget of T
tokens is read as the bytes of T plain tokens, and as many entries are kept as fit in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lengthwise.errors import Refused
from lengthwise.methods.budget import UNITS, Budget
from lengthwise.methods.options import option

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts

# An index is int32 and a statistic float32.
SIDE_BYTES = 4
# Ours: the papers' capacities are fixed numbers, which leave short prompts alone by themselves.
FLOOR = 128


def floor_option() -> Any:
    """What a budget given as a share comes to at least, beside what a method always keeps."""
    return option(FLOOR, "tokens that a share is worth at least, beside those always kept", low=0)


def full_layers(model: AdaptedModel) -> list[LayerFacts]:
    """The layers whose cache grows with the text; a window of a layer's own is left alone.

    Args:
        model: the adapted model the recipe runs on.
    """
    return [layer for layer in model.layers if layer.window is None]


def require_budget(what: str, budget: Budget, least: int, way: str) -> None:
    """Raises Refused where a budget in tokens does not hold the `least` that always stay.

    what: the recipe and what stays, as in "snapkv(budget=8): the window alone is". way: what to do.
    """
    if budget.unit == "tokens" and budget.amount < least:
        raise Refused(f"{what} more than the budget", way)


def needs_full_layers(name: str, model: AdaptedModel) -> None:
    """Raises Refused where every layer has a window of its own: nothing could be dropped.

    Args:
        name: of the method, for the refusal.
        model: the adapted model the recipe runs on.
    """
    if not full_layers(model):
        raise Refused(
            f"{name} has nothing to drop: every layer of this {model.family!r} model already keeps "
            "only a window",
            "use a codec instead",
        )


def layer_tokens(
    budget: Budget, model: AdaptedModel, length: int, floor: int = 1, beside: int = 0
) -> int:
    """Plain tokens that each full layer may hold of a prompt of `length` tokens.

    Bytes are those of the whole cache, so what the model's own windows hold is taken off first.

    Args:
        budget: what the user gave.
        model: the adapted model the recipe runs on.
        length: tokens of the prompt.
        floor: what a share comes to at least, in tokens.
        beside: bytes a token takes beside keys and values, in a layer.

    Raises:
        Refused: where bytes do not pay for one token.
    """
    each = sum(plain_bytes(layer, model.dtype) + beside for layer in full_layers(model))
    if budget.unit not in UNITS:
        return budget.tokens(length, each, floor)
    fixed = sum(
        plain_bytes(layer, model.dtype) * min(layer.window, length)
        for layer in model.layers
        if layer.window is not None
    )
    left = budget.amount * UNITS[budget.unit] - fixed
    if left < each:
        own = f" more than the {fixed:,} bytes of the model's own windows" if fixed else ""
        raise Refused(
            f"a budget of {budget} does not pay for one token{own}",
            f"give at least {fixed + each:,}B",
        )
    return budget.tokens(length, each) if not fixed else Budget(left, "B").tokens(length, each)


def plain_bytes(layer: LayerFacts, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values in one layer."""
    return torch.empty(0, dtype=dtype).element_size() * layer.entry_numbers


def affordable(
    layer: LayerFacts, dtype: torch.dtype, tokens: int, attention_mass: bool = False, spent: int = 0
) -> int:
    """Entries a key head that fit in the bytes of `tokens` plain tokens of one layer.

    Every head pays for an index of its own.

    Args:
        layer: facts of the layer.
        dtype: the model's.
        tokens: plain ones whose bytes may be used.
        attention_mass: whether each entry also pays for a float32 of mass.
        spent: bytes of these that are taken already.

    Returns:
        At most `tokens`; it can be 0 or less.
    """
    plain = plain_bytes(layer, dtype)
    beside = SIDE_BYTES * layer.num_kv_heads * (2 if attention_mass else 1)
    return (tokens * plain - spent) // (plain + beside)


def near_tokens(layer: LayerFacts, dtype: torch.dtype, near: int) -> int:
    """Plain tokens whose bytes `near` entries of a window and their indices take."""
    plain = plain_bytes(layer, dtype)
    return -(-near * (plain + SIDE_BYTES) // plain)


def prompt_entries(
    layer: LayerFacts, dtype: torch.dtype, length: int, allowed: int, near: int = 0
) -> int | None:
    """Entries that stay of those a prompt of `length` tokens has beyond a window.

    Args:
        layer: whose entries they are.
        dtype: the model's.
        length: tokens of the prompt.
        allowed: plain tokens whose bytes the layer may hold.
        near: entries that the window keeps; 0 is that there is none.

    Returns:
        The number of entries a key head, or None where all stay.

    Raises:
        Refused: none could.
    """
    spent = near * (plain_bytes(layer, dtype) + SIDE_BYTES)
    if length <= allowed:
        return None
    count = affordable(layer, dtype, allowed, spent=spent)
    if count < (0 if near else 1):
        raise Refused(
            f"a budget of {allowed} tokens a layer is used up by the {near} that the recipe's "
            "window keeps near"
            if near
            else f"a budget of {allowed} tokens does not pay for one entry and its index",
            "give a larger budget or a smaller window",
        )
    return count


__all__ = [
    "SIDE_BYTES",
    "affordable",
    "floor_option",
    "full_layers",
    "layer_tokens",
    "near_tokens",
    "needs_full_layers",
    "plain_bytes",
    "prompt_entries",
]
