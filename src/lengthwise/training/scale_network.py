"""CLEX while it is trained: random scales, random positions, and a network beside the weights.

Each forward of a row of n tokens draws t in 1 .. max_factor and n positions of L0 t: the first, the
last, and n - 2 between, in order. Evaluation takes t by the length, as reading does. The network is
a part of the model as long as it is trained, and a file beside the weights in every folder that is
written, since transformers' models have no such part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lengthwise.errors import LengthwiseError
from lengthwise.methods.positions.clex import CLEX
from lengthwise.methods.positions.scale_network import FILE, ScaleNetwork
from lengthwise.models.attention_hook import rotary_modules
from lengthwise.training.config import TrainingError

_PART = "rotary_emb.network."
_TRIED = 8
"""Positions at which a family's own rotation is compared with ours."""


class TrainedRotary(nn.Module):
    """Takes the place of a model's rotary module. inv_freq: its own, float32 `[pairs]`."""

    inv_freq: Tensor

    def __init__(self, own: nn.Module, network: ScaleNetwork) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("inv_freq", own.inv_freq, persistent=False)  # type: ignore[arg-type]
        self.amplitude = float(getattr(own, "attention_scaling", 1.0))

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin `[rows, n, 2 pairs]`, in the dtype of x, of position_ids `[rows, n]`."""
        count = position_ids.shape[-1]
        scale, places = self.network.scale_of(count), position_ids
        if self.training:
            scale = int(torch.randint(1, self.network.largest + 1, ()))
            places = drawn_positions(count, self.network.trained * scale)[None]
        with torch.autocast(x.device.type, enabled=False):
            used = self.network.frequencies(self.inv_freq.float(), 2 * len(self.inv_freq), scale)
            angles = places.to(x.device)[..., None].float() * used
            angles = torch.cat((angles, angles), -1).expand(*position_ids.shape, -1)
        return ((angles.cos() * self.amplitude).to(x.dtype),
                (angles.sin() * self.amplitude).to(x.dtype))  # fmt: skip


def drawn_positions(count: int, span: int) -> Tensor:
    """`count` different positions of 0 .. span - 1 in order, the first and the last among them."""
    if count < 2:
        return torch.zeros(count, dtype=torch.long)
    between = torch.randperm(span - 2)[: count - 2].sort().values + 1
    return torch.cat([torch.zeros(1, dtype=torch.long), between, torch.tensor([span - 1])])


def attach_network(model: nn.Module, method: CLEX, folder: Path | None) -> None:
    """Puts the network into a model: that of `folder`, or a new one where it has none.

    Raises TrainingError for a family whose rotation is another one.
    """
    config: Any = model.config
    modules = rotary_modules(model)
    trained = int(config.max_position_embeddings)
    try:
        (own,) = modules
        network = ScaleNetwork(len(own.inv_freq), trained, method.max_factor)  # type: ignore[arg-type]
        ours = TrainedRotary(own, network).eval()
        x, places = torch.zeros(1, 1), torch.arange(min(_TRIED, trained))[None]
        alike = all(map(torch.allclose, ours(x, places), own(x, places)))
    except (TypeError, ValueError, RuntimeError, AttributeError):
        # Several modules, one that is asked otherwise, or frequencies by layer type.
        alike = False
    if not alike:
        raise TrainingError(
            f"[positions] family {config.model_type!r} does not rotate all layers alike by one "
            "module, whose frequencies clex could take over: take another family, such as llama"
        )
    place = None if folder is None else folder / FILE
    if place is not None and place.is_file():
        try:
            found = ScaleNetwork.of(json.loads(place.read_text(encoding="utf-8")))
            network.load_state_dict(found.state_dict())
        except (OSError, ValueError, RuntimeError, LengthwiseError) as error:
            raise TrainingError(f"{place} is damaged or of another model: delete it") from error
    for name, module in model.named_modules():
        if module is own:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, ours)


def is_part(key: str) -> bool:
    """Whether a weight of this name is the network's."""
    return _PART in key


def apart(
    model: nn.Module, weights: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, bytes]]:
    """The weights that transformers knows, and the file of the network where there is one."""
    own = {key.rpartition(".")[2]: value for key, value in weights.items() if is_part(key)}
    if not own:
        return weights, {}
    (rotary,) = (each for each in model.modules() if isinstance(each, TrainedRotary))
    said = {**rotary.network.numbers(), **{name: each.tolist() for name, each in own.items()}}
    rest = {key: value for key, value in weights.items() if not is_part(key)}
    return rest, {FILE: json.dumps(said).encode()}
