"""Models on which documents that are set apart can be seen whole, where they were read."""

from __future__ import annotations

from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.models.adapted_model import AdaptedModel


def needs_whole_view(method: Method, model: AdaptedModel) -> None:
    """Refuses a model whose layers have windows of their own, or whose frequencies switch.

    Args:
        method: that has documents set apart.
        model: the adapted model the recipe runs on.

    Raises:
        Refused: for such a model.
    """
    if any(layer.window is not None for layer in model.layers):
        raise Refused(
            f"{method.name} has the documents seen whole, and layers of this {model.family!r} "
            "model see a window of their own",
            "give the documents in one text, under another recipe",
        )
    if model.rope is not None and model.rope.switch is not None:
        raise Refused(
            f"{method.name} keeps documents at the positions they were read at, and this "
            f"{model.family!r} model has other frequencies beyond {model.rope.switch:,} tokens",
            "give the documents in one text, under another recipe",
        )


__all__ = ["needs_whole_view"]
