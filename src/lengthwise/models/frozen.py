"""A model that nothing is asked of but to let gradients through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel


@contextmanager
def frozen(model: PreTrainedModel) -> Iterator[None]:
    """Asks for no gradient of any weight of the model, for as long as a block lasts.

    Args:
        model: whose weights ask for what they asked for before when the block ends.
    """
    asked = [each for each in model.parameters() if each.requires_grad]
    for each in asked:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in asked:
            each.requires_grad_(True)


__all__ = ["frozen"]
