"""What a run gives its model for its positions that no config of transformers can say."""

from __future__ import annotations

from torch import nn

from lengthwise.methods.base import Method
from lengthwise.training.config import TrainingError
from lengthwise.training.parallel import Ranks
from lengthwise.training.positions import scale_of
from lengthwise.training.query_scale import attach_scale


def attach(model: nn.Module, method: Method | None, ranks: Ranks) -> None:
    """Makes a model compute, while it is trained, what its config does not tell.

    method: of `[positions]`; None for the model's own. Raises TrainingError where that cannot be.
    """
    scale = None if method is None else scale_of(method)
    if scale is None:
        return
    if ranks.context > 1:
        raise TrainingError(
            f"parallel.context={ranks.context}: logits that grow with the position are not shared "
            "among ranks: leave it at 1"
        )
    attach_scale(model, scale)
