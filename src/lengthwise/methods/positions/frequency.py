"""What the methods that change rotary frequencies share: which models they fit, and the NTK base.

Every rule here is a factor per channel on the frequencies the model was trained with, a static
scaling of its own included. So factor 1 does nothing on every model. Partial rotary heads need no
special case: i counts the pairs that rotate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, needs_rope
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import FrequencyRule, RopeFacts


def needs_still_frequencies(method: Method, model: AdaptedModel) -> None:
    """Refuses a model without rotary positions, or whose own frequencies change with the length.

    Args:
        method: which replaces them.
        model: the adapted model the recipe runs on.

    Raises:
        Refused: for such a model.
    """
    needs_rope(method, model)
    if model.rope is not None and model.switch is not None:
        kinds = sorted({model.rope.own.rope_type(kind) for kind in model.rope.facts} - {"default"})
        raise Refused(
            f"{method.name} replaces rotary frequencies and this model ({model.family}, rope type "
            f"{', '.join(kinds)}) already changes them with the length, beyond {model.switch:,} "
            "tokens",
            "use self_extend or lm_infinite, or a selection or retention method, instead",
        )


class FrequencyMethod(Method, ABC):
    """A method that replaces the rotary frequencies, whatever the length, by `changed`."""

    @abstractmethod
    def changed(self, inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
        """The frequencies that take the place of the model's own.

        Args:
            inv_freq: the model's, float32 `[pairs]`.
            facts: base, rotated channels of a head, trained length in tokens.
            length: of a text in tokens. Angles are kept for other texts: nothing may depend on it.

        Returns:
            Frequencies float32 `[pairs]`, and what cos and sin are multiplied by.
        """

    def check(self, model: AdaptedModel) -> None:
        needs_still_frequencies(self, model)

    def frequencies(self, model: AdaptedModel) -> FrequencyRule:
        return FrequencyRule(self.changed)


def needs_smaller_base(method: Method, model: AdaptedModel, base: float | None) -> None:
    """Refuses a model whose own rotary base is larger than the one it is to get.

    Args:
        method: which raises the base.
        model: the adapted model the recipe runs on.
        base: the new one; None keeps the model's.

    Raises:
        Refused: for such a model.
    """
    if base is None or model.rope is None:
        return
    kinds = {layer.rotary_type for layer in model.layers if layer.window is None}
    own = max(
        (model.rope.facts[kind].theta for kind in kinds if kind in model.rope.facts), default=0
    )
    if own > base:
        raise Refused(
            f"{method.name} raises the rotary base to {base:,.0f}, and that of this "
            f"{model.family!r} model is {own:,.0f} already",
            f"give a larger one, as in {method.name}(base={10 * own:.0f}), or use yarn or ntk",
        )


def rebased(inv_freq: Tensor, facts: RopeFacts, base: float | None) -> Tensor:
    """Frequencies float32 `[pairs]` under another base than `facts.theta`.

    Args:
        inv_freq: those of the model, float32 `[pairs]`.
        facts: of the model's rotation.
        base: the new one; None keeps the model's.
    """
    if base is None:
        return inv_freq
    exponent = 2 * torch.arange(len(inv_freq), dtype=torch.float64) / facts.rotary_dim
    ratio = (base / facts.theta) ** -exponent
    return inv_freq * ratio.float().to(inv_freq.device)


def ntk_ratio(growth: float, rotary_dim: int, pairs: int) -> Tensor:
    """Factor on each frequency, float32 `[pairs]`, of a base raised to theta * growth^(d/(d-2)).

    The fastest pair keeps its frequency and the slowest is divided by `growth`.
    """
    exponent = 2 * torch.arange(pairs, dtype=torch.float64) / max(rotary_dim - 2, 1)
    return (growth**-exponent).float()
