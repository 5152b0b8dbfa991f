"""What the methods that change rotary frequencies share: which models they fit, and the NTK base.

Every rule here is a factor per channel on the frequencies the model was trained with, a static
scaling of its own included. So factor 1 does nothing on every model, and partial rotary heads need
no special case: i counts the pairs that rotate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, needs_rope
from lengthwise.models.adapt import Adapted

# Rope types whose module replaces its own frequencies during a forward.
MOVING = ("dynamic", "longrope")


def needs_still_frequencies(method: Method, model: Adapted) -> None:
    """Refuses a model without rotary positions, or whose own frequencies change with the length."""
    needs_rope(method, model)
    own = getattr(model.model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [own, *(value for value in own.values() if isinstance(value, dict))]
    for kind in kinds:
        if kind.get("rope_type") in MOVING:
            raise Refused(
                f"{method.name} replaces rotary frequencies and this model ({model.family}, rope "
                f"type {kind['rope_type']!r}) already changes them with the length",
                "use self_extend or lm_infinite, or a selection or retention method, instead",
            )


def ntk_ratio(growth: float, rotary_dim: int, pairs: int) -> Tensor:
    """Factor on each frequency, float32 `[pairs]`, of a base raised to theta * growth^(d/(d-2)).

    The fastest pair keeps its frequency and the slowest is divided by `growth`.
    """
    exponent = 2 * torch.arange(pairs, dtype=torch.float64) / max(rotary_dim - 2, 1)
    return (growth**-exponent).float()
