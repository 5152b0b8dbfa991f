"""What is known of one attention layer once its model was probed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.models.rope import RotaryLayout


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """One attention layer. window: a query sees this many keys, itself included; None is all.

    layer_type: as the configuration names it. rotary_type: that type where the rotary module is
    called with it, else None. device: where the layer attends, and so where its entries are kept.
    """

    index: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    value_dim: int
    scaling: float
    softcap: float | None
    sinks: Tensor | None
    window: int | None
    layer_type: str | None
    layout: RotaryLayout | None
    rotary_type: str | None = None
    device: torch.device = torch.device("cpu")

    @property
    def entry_numbers(self) -> int:
        """Numbers that one cached token of this layer holds."""
        return self.num_kv_heads * (self.head_dim + self.value_dim)
