"""What helps a method to say which of its settings comes to a share of the full cache.

`Method.at_share` is the hook. Those with a budget need none of this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts


class Sized(Protocol):
    """A codec that knows the bytes of a token before it encodes any."""

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens."""
        ...


AnySized = TypeVar("AnySized", bound=Sized)


def nearest(
    settings: Iterable[AnySized], share: float, model: AdaptedModel, length: int
) -> AnySized:
    """The setting whose bytes come nearest to a share of the full cache; of equals the first.

    Args:
        settings: of one codec, at least one.
        share: above 0 and at most 1.
        model: the adapted model the recipe runs on.
        length: tokens of the prompt.
    """
    layers = [layer for layer in model.layers if layer.window is None]
    full = sum(layer.entry_numbers * model.dtype.itemsize for layer in layers)

    def gap(setting: AnySized) -> float:
        held = sum(setting.bytes_per_token(layer, model.dtype, length) for layer in layers)
        return abs(held - share * full)

    return min(settings, key=gap)


def whole_and_rest(parts: int, share: float, length: int, kept: float) -> tuple[int, int]:
    """How a share is divided where some parts of a cache keep everything and the others few tokens.

    Args:
        parts: heads or layers, all alike.
        share: of what all of them would hold, above 0 and at most 1.
        length: tokens of the prompt.
        kept: about as many tokens each of the others is to keep, fewer than the share of them all.

    Returns:
        How many parts keep everything, and how many tokens each of the others keeps, at least 1:
            both together come to the share.
    """
    each = min(kept / max(1, length), share)
    whole = parts if share == 1.0 else int(parts * (share - each) / (1 - each) + 1e-9)
    if whole == parts:
        return parts, max(1, int(kept))
    return whole, max(1, round(length * (share * parts - whole) / (parts - whole)))


__all__ = ["nearest", "whole_and_rest"]
