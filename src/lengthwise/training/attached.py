"""What a run gives its model that no config of transformers can say: positions and windows."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lengthwise.errors import Refused
from lengthwise.methods.positions.clex import CLEX
from lengthwise.training.config import RunConfig, TrainingError
from lengthwise.training.parallel import Ranks
from lengthwise.training.positions import read_with, scale_of, scales_queries
from lengthwise.training.query_scale import attach_scale
from lengthwise.training.scale_network import attach_network
from lengthwise.training.windows import attach_windows


def attach(
    model: nn.Module, config: RunConfig, ranks: Ranks, packed: bool, folder: Path | None
) -> None:
    """Makes a model compute, while it is trained, what its config does not tell.

    packed: whether rows hold several documents. folder: that the model was read from. Raises
    TrainingError where that cannot be.
    """
    method = config.positions.method()
    if isinstance(method, CLEX):
        _refuse_clex(config, ranks, packed)
        attach_network(model, method, folder)
    elif method is not None and (scale := scale_of(method)) is not None:
        if ranks.context > 1:
            raise TrainingError(
                f"parallel.context={ranks.context}: logits that grow with the position are not "
                "shared among ranks: leave it at 1"
            )
        attach_scale(model, scale)
    if windows := config.retention.method():
        _refuse_windows(config, ranks)
        try:
            attach_windows(model, windows)
        except Refused as refusal:
            raise TrainingError(f"[retention] {refusal}") from refusal


def read_by(config: RunConfig) -> str:
    """The recipe that the trained model is to be read with; empty where its config says all."""
    found = (config.retention.method(), read_with(config.positions.method()))
    return " + ".join(str(each) for each in found if each is not None)


def _refuse_windows(config: RunConfig, ranks: Ranks) -> None:
    if ranks.context > 1:
        raise TrainingError(
            f"parallel.context={ranks.context}: the windows of [retention] are not shared among "
            "ranks: leave it at 1"
        )
    method = config.positions.method()
    if isinstance(method, CLEX) or (method is not None and scales_queries(method)):
        raise TrainingError(
            f"[retention] and [positions] {method.name} both need an attention of their own: train "
            "with one of them, or with positions that a config says, such as abf"
        )


def _refuse_clex(config: RunConfig, ranks: Ranks, packed: bool) -> None:
    if ranks.world > 1:
        raise TrainingError(
            f"[positions] clex draws a scale for every forward and trains on one rank, and "
            f"{ranks.world} were started: start without torchrun"
        )
    if config.growth.at_step:
        raise TrainingError(
            "[positions] clex trains a network beside the layers, which growth would leave behind: "
            "leave growth out, or grow first and train clex from that model"
        )
    if packed:
        raise TrainingError(
            "[positions] clex draws positions for rows of one document, and rows of this data hold "
            "several: build it with --method concat or decompose"
        )
