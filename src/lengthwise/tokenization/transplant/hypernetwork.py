"""ZeTT's network: from how an old tokenizer spells a token to that token's rows; and its file.

    x_i   = projector(dense([in_scaled(p_i), out_scaled(p_i)]))   of the pieces p_1 ... p_n, n <= 7
    h     = encoder(x_1 + place_1, ..., x_n + place_n)              as RoBERTa's: post-norm, GELU
    rows  = unscaled(head_in(h_1)), unscaled(head_out(h_1))

Scaled means less the mean of the old matrix and by its deviation, number by number. The projector
is a residual block of two products; each head is one, too, with a product behind it. Tokens of
equally many pieces are computed together, so nothing is padded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lengthwise._utils.files import write_aside
from lengthwise._utils.messages import first_line
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.method import Donor

KEY = "lengthwise hypernetwork"
"""Of the header, under which all that is no tensor stands as JSON."""
VERSION = 2
HOW = "`lengthwise tokenizer hypernetwork` writes one"
_DAMAGED = (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Shape:
    """Of a hypernetwork.

    Attributes:
        layers: of the encoder (the paper's: 3).
        width: of its states; None is that of the embeddings, as in the paper.
        heads: of each layer, at most: the largest number up to it that divides the width.
        pieces: first pieces of a token that are read; the paper's.
    """

    layers: int = 3
    width: int | None = None
    heads: int = 8
    pieces: int = 7

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 1:
                raise TokenizerError(f"{name}={value}: give a whole number, 1 at least")


class _Block(nn.Module):
    """A residual block of two products."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        found: Tensor = states + self.down(F.gelu(self.up(self.norm(states))))
        return found


class HyperNetwork(nn.Module):
    """Makes rows of pieces.

    Args:
        matrices: the old input embeddings, and the output embeddings where they are others,
            float32 `[tokens, width]`; they are no part of the network's file, and go with it to
            another device.
        shape: its sizes.
    """

    def __init__(self, matrices: Seq[Tensor], shape: Shape) -> None:
        super().__init__()
        inputs = matrices[0].shape[1]
        width = shape.width or inputs
        heads = max(each for each in range(1, shape.heads + 1) if width % each == 0)
        self.shape, self.count = shape, len(matrices)
        self.dense = nn.Linear(self.count * inputs, width)
        self.projector = _Block(width)
        self.places = nn.Parameter(torch.randn(shape.pieces, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)
        self.heads = nn.ModuleList(
            nn.Sequential(_Block(width), nn.Linear(width, inputs)) for _ in matrices
        )
        means = torch.stack([each.mean(0) for each in matrices])
        deviations = torch.stack([each.std(0).clamp_min(1e-8) for each in matrices])
        scaled = [(m - a) / s for m, a, s in zip(matrices, means, deviations, strict=True)]
        self.means: Tensor
        self.deviations: Tensor
        self.scaled: Tensor
        for name, each in (("means", means), ("deviations", deviations),
                           ("scaled", torch.cat(scaled, dim=1))):  # fmt: skip
            self.register_buffer(name, each, persistent=False)

    def forward(self, pieces: Seq[Seq[int]]) -> tuple[Tensor, ...]:
        """The rows of tokens.

        Args:
            pieces: old tokens that spell each, at least one; those behind the first ones that the
                shape allows are not read.

        Returns:
            Of each matrix float32 `[tokens, width]`.
        """
        cut = [each[: self.shape.pieces] for each in pieces]
        order = sorted(range(len(cut)), key=lambda n: len(cut[n]))
        states, at = [], 0
        while at < len(order):
            size = len(cut[order[at]])
            stop = at
            while stop < len(order) and len(cut[order[stop]]) == size:
                stop += 1
            ids = torch.tensor([cut[n] for n in order[at:stop]], device=self.scaled.device)
            given = self.projector(self.dense(self.scaled[ids])) + self.places[:size]
            states.append(self.encoder(given)[:, 0])
            at = stop
        back = torch.tensor(order, device=self.scaled.device).argsort()
        first = torch.cat(states)[back]
        return tuple(
            head(first) * deviation + mean
            for head, deviation, mean in zip(
                self.heads, self.deviations, self.means, strict=True)
        )  # fmt: skip


def save_network(path: Path, network: HyperNetwork, donor: Donor, trained: dict[str, Any]) -> None:
    """Writes a network's file, aside.

    Args:
        path: of the file.
        network: trained.
        donor: the rows of the model that it was trained for.
        trained: how, as plain data.
    """
    about = {"version": VERSION, "shape": asdict(network.shape), "count": network.count,
             "donors": donor.fingerprints(), "trained": trained}  # fmt: skip
    with write_aside(path) as aside:
        save_file(network.state_dict(), aside, {KEY: json.dumps(about)})


def load_network(path: Path, donor: Donor) -> HyperNetwork:
    """The network of a file, for the model that it was trained for.

    Args:
        path: of the file.
        donor: the model's rows.

    Raises:
        TokenizerError: where there is none, it is damaged, or of another model or tokenizer.
    """
    about = header(path)
    if donor.fingerprint not in about["donors"]:
        raise TokenizerError(
            f"{path}: this network was trained for another model or tokenizer, whose rows it would "
            f"make; train one for this ({HOW})"
        )
    try:
        network = HyperNetwork(donor.matrices[: about["count"]], Shape(**about["shape"]))
        with safe_open(path, framework="pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except _DAMAGED as error:
        raise TokenizerError(f"{path}: this file is damaged ({first_line(error)})") from error
    return network.eval()


def header(path: Path) -> dict[str, Any]:
    """What a network's file says of it.

    Args:
        path: of the file.

    Raises:
        TokenizerError: for a file that is none, or of another version.
    """
    if not path.is_file():
        raise TokenizerError(f"{path}: there is no such file; {HOW}")
    try:
        with safe_open(path, framework="pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
    except _DAMAGED as error:
        raise TokenizerError(f"{path} holds no hypernetwork of lengthwise; {HOW}") from error
    if found.get("version") != VERSION:
        raise TokenizerError(
            f"{path} is of version {found.get('version')}, and this one reads {VERSION}: train it "
            "again"
        )
    return found


__all__ = ["HOW", "KEY", "HyperNetwork", "Shape", "header", "load_network", "save_network"]
