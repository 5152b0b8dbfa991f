"""A trained copy of a model's first layers, and what brings its states to the size of embeddings.

States of a layer are many times larger than embeddings, and some channels of them larger than all
others. A frozen model that is fed them says nothing, and training would spend its first hundreds of
steps on their size. `Matched` begins as the map that gives every channel the mean and the deviation
that embeddings have in it.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lengthwise._utils.messages import first_line
from lengthwise.errors import LengthwiseError, Refused, UnsupportedModel
from lengthwise.models import obstacles
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.cut import cut_model
from lengthwise.models.quantised import format_of
from lengthwise.models.sample import sample_ids

# Tokens of a text on which states and embeddings are compared; the first ones have states of an
# own size.
_COMPARED, _FIRST = 256, 4


class FirstLayers(nn.Module):
    """The first layers of a model, copied in float32, with its last norm behind them.

    Args:
        model: whose layers they are.
        count: how many; None is all of them, and 0 gives back what comes in.

    Raises:
        LengthwiseError: where the model has fewer.
        Refused: for a model that cannot be copied so.
    """

    def __init__(self, model: AdaptedModel, count: int | None) -> None:
        super().__init__()
        total = len(model.layers)
        self.count = total if count is None else count
        if self.count > total:
            raise LengthwiseError(f"layers={count}: {model.family} has {total}; give fewer")
        self.stack = _copied(model, self.count) if self.count else None

    def forward(self, embeddings: Tensor) -> Tensor:
        """States `[rows, n, hidden]`; every token sees those before it.

        Args:
            embeddings: `[rows, n, hidden]`.
        """
        if self.stack is None:
            return embeddings
        dtype = next(self.stack.parameters()).dtype
        states = self.stack(inputs_embeds=embeddings.to(dtype), use_cache=False)
        found: Tensor = states.last_hidden_state
        return found


def _copied(model: AdaptedModel, count: int) -> nn.Module:
    if obstacles.quantised(model.model) or format_of(model.model):
        raise Refused(
            f"layers of {model.dtype_text} cannot be copied to be trained",
            "load the model in bf16 or fp32",
        )
    if len(model.devices) > 1:
        raise Refused(
            "a model on several devices cannot be copied layer by layer",
            "load it on one device",
        )
    try:
        small = cut_model(model.model, range(count))
        small.set_input_embeddings(nn.Identity())
        stack: Any = copy.deepcopy(small.get_decoder())
        stack.float()
    except (UnsupportedModel, AttributeError, NotImplementedError, TypeError) as error:
        raise Refused(
            f"the layers of {model.family} cannot be copied ({first_line(error)})",
            "take a model of another family",
        ) from None
    module: nn.Module = stack.requires_grad_(True).eval()
    return module


class Matched(nn.Module):
    """A scale and a shift a channel, float32 `[hidden]`; at first it changes nothing."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, states: Tensor) -> Tensor:
        """Embeddings of states `[..., hidden]`, float32.

        Args:
            states: in any dtype.
        """
        return states.float() * self.weight.float() + self.bias.float()

    @torch.no_grad()
    def match(self, states: Tensor, embeddings: Tensor) -> None:
        """Gives states the mean and the deviation of embeddings, channel by channel.

        Args:
            states: of some tokens, `[n, hidden]`.
            embeddings: of some tokens, `[m, hidden]`.
        """
        states, embeddings = states.float(), embeddings.float()
        scale = embeddings.std(0) / states.std(0).clamp_min(1e-6)
        self.weight.copy_(scale)
        self.bias.copy_(embeddings.mean(0) - states.mean(0) * scale)


def compared(model: AdaptedModel) -> Tensor:
    """Ids `[n]` of a text on which `Matched` begins.

    Args:
        model: whose tokens they are.
    """
    return sample_ids(model, min(_COMPARED, model.trained_length))


def behind_first(states: Tensor) -> Tensor:
    """States without those of the first tokens, whose size is their own.

    Args:
        states: of a text, `[n, hidden]`.
    """
    return states[min(_FIRST, len(states) // 2) :]


def padded(rows: list[Tensor]) -> Tensor:
    """Rows `[n, hidden]` of several lengths as `[rows, longest, hidden]`, filled up behind.

    Args:
        rows: at least one.
    """
    longest = max(map(len, rows))
    return torch.stack([F.pad(row, (0, 0, 0, longest - len(row))) for row in rows])


def narrow(model: AdaptedModel, module: nn.Module) -> Any:
    """The context in which a module in float32 computes as the model does.

    Args:
        model: in whose dtype.
        module: it computes in its own dtype where that is no float32.
    """
    wide = next(module.parameters()).dtype is torch.float32
    if not wide or model.dtype not in (torch.bfloat16, torch.float16):
        return nullcontext()
    return torch.autocast(model.device.type, model.dtype)


__all__ = ["FirstLayers", "Matched", "behind_first", "compared", "narrow", "padded"]
