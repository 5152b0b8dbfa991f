"""Rankers of continuations: which of several texts goes best behind another.

A bi-encoder as RankGen's (arXiv 2205.09726): one small transformer makes a vector of a prefix and
one of each continuation, told apart by a marker, and the score is their product. A prefix is cut on
the left and a continuation on the right, so that both keep what is next to the border. The file is
safetensors; its header is JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence as Seq
from dataclasses import asdict, dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lengthwise._utils.files import write_aside
from lengthwise._utils.messages import first_line
from lengthwise._utils.version import __version__
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.datastore import fingerprint

KEY = "lengthwise ranker"
"""Of the header, under which all that is no tensor stands as JSON."""
VERSION = 1
PREFIX, SUFFIX = 0, 1
HOW = "`lengthwise ranker train` writes one"
# Texts of a forward.
_TOGETHER = 64
# What reading a file that was changed raises.
_DAMAGED = (OSError, SafetensorError, LengthwiseError, KeyError, TypeError, ValueError,
            RuntimeError)  # fmt: skip


class Ranker(Protocol):
    """Says how well continuations go behind a prefix."""

    def scores(self, prefix: Seq[int], continuations: Seq[Seq[int]]) -> list[float]:
        """A score of each; the highest goes best.

        Args:
            prefix: ids of the text before, at least one.
            continuations: ids of each text behind it, at least one of each.
        """
        ...


@dataclass(frozen=True)
class Shape:
    """Of a bi-encoder.

    Attributes:
        width: numbers of a state and of a vector.
        layers: of the transformer.
        heads: of each layer.
        prefix: last tokens of a prefix that are read.
        suffix: first tokens of a continuation that are read.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    prefix: int = 512
    suffix: int = 128

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise LengthwiseError(f"{name}={value!r}: give a whole number, 1 at least")
        if self.width % self.heads:
            raise LengthwiseError(f"width={self.width} is no multiple of heads={self.heads}")


class BiEncoder(nn.Module):
    """One encoder for both sides; implements `Ranker`.

    table: what stands for each token, `[vocab, n]`, and is not trained; where n is no `width`, a
    product brings it there. tokenizer: the fingerprint of the one that it reads, "" for any.
    trained: how it was trained, as plain data.
    """

    def __init__(
        self, table: Tensor, shape: Shape, tokenizer: str = "", trained: Mapping[str, Any] = {}
    ) -> None:
        super().__init__()
        self.shape, self.tokenizer, self.trained = shape, tokenizer, dict(trained)
        self.table = nn.Parameter(table, requires_grad=False)
        width = shape.width
        self.down = None if table.shape[1] == width else nn.Linear(table.shape[1], width)
        self.markers = nn.Parameter(torch.randn(2, width) * 0.02)
        self.places = nn.Parameter(torch.randn(max(shape.prefix, shape.suffix), width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, shape.heads, 4 * width, dropout=0.1, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, texts: Seq[Seq[int]], side: int) -> Tensor:
        """Vectors of length one.

        Args:
            texts: ids, at least one of each.
            side: PREFIX or SUFFIX.

        Returns:
            float32 `[texts, width]`.
        """
        cut = [self.cut(each, side) for each in texts]
        longest = max(map(len, cut))
        device = self.table.device
        # The place of a token is its distance from the border between prefix and continuation.
        order = [each[::-1] if side == PREFIX else each for each in cut]
        ids = torch.tensor([[*each, *[0] * (longest - len(each))] for each in order], device=device)
        counts = torch.tensor([[len(each)] for each in cut], device=device)
        void = torch.arange(longest, device=device)[None] >= counts
        states = self.table[ids].float()
        if self.down is not None:
            states = self.down(states)
        states = states + self.places[:longest] + self.markers[side]
        marker = self.markers[side].expand(len(cut), 1, -1)
        void = torch.cat([void.new_zeros(len(cut), 1), void], 1)
        states = self.norm(self.layers(torch.cat([marker, states], 1), src_key_padding_mask=void))
        kept = (~void).unsqueeze(-1)
        mean = (states * kept).sum(1) / kept.sum(1)
        return F.normalize(self.out(mean), dim=-1)

    def cut(self, ids: Seq[int], side: int) -> list[int]:
        """What is read of a text.

        Args:
            ids: of the text.
            side: PREFIX, whose last tokens are read, or SUFFIX, whose first ones are.
        """
        return list(ids[-self.shape.prefix :] if side == PREFIX else ids[: self.shape.suffix])

    @property
    def scale(self) -> Tensor:
        """By what products of vectors are multiplied, a scalar."""
        return self.log_scale.clamp(max=5.0).exp()

    @torch.no_grad()
    def scores(self, prefix: Seq[int], continuations: Seq[Seq[int]]) -> list[float]:
        before = self([prefix], PREFIX)[0]
        found: list[float] = []
        for start in range(0, len(continuations), _TOGETHER):
            behind = self(continuations[start : start + _TOGETHER], SUFFIX)
            found += (self.scale * (behind @ before)).tolist()
        return found

    def folded(self) -> BiEncoder:
        """The same encoder with its table brought to `width`, in float16: what is stored."""
        with torch.no_grad():
            table = self.table.float() if self.down is None else self.down(self.table.float())
        new = BiEncoder(table.half(), self.shape, self.tokenizer, self.trained)
        own = {n: v for n, v in self.state_dict().items() if not n.startswith(("table", "down"))}
        new.load_state_dict({**own, "table": new.table.data})
        return new.eval()


def save_ranker(path: str | PathLike[str], ranker: BiEncoder) -> None:
    """Stores a ranker, written aside and renamed.

    Args:
        path: of the file.
        ranker: any; its table is folded.

    Raises:
        LengthwiseError: where the disk refuses.
    """
    folded = ranker.folded()
    said = {
        "version": VERSION, "library": __version__, "shape": asdict(folded.shape),
        "tokenizer": folded.tokenizer, "vocab_size": len(folded.table), "trained": folded.trained,
    }  # fmt: skip
    weights = {name: each.detach().cpu().contiguous() for name, each in folded.named_parameters()}
    try:
        with write_aside(path) as aside:
            save_file(weights, aside, metadata={KEY: json.dumps(said)})
    except (OSError, SafetensorError) as error:
        raise LengthwiseError(
            f"{os.fspath(path)}: cannot be written ({first_line(error)})"
        ) from None


def load_ranker(path: str | PathLike[str]) -> BiEncoder:
    """A ranker that was stored; held as long as the file stays as it is.

    Args:
        path: of the file.

    Raises:
        RecipeError: for a file that is missing, damaged, something else or of another version.
    """
    place = Path(os.path.expanduser(path))
    try:
        status = place.stat()
    except OSError as error:
        raise RecipeError(f"{place}: {error.strerror or error}; {HOW}") from None
    return _loaded(place, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
@torch.inference_mode(False)
def _loaded(place: Path, changed: int, size: int) -> BiEncoder:
    try:
        with safe_open(str(place), framework="pt") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise RecipeError(f"{place}: holds no ranker; {HOW}")
            said = json.loads(metadata[KEY])
            if said["version"] != VERSION:
                raise RecipeError(
                    f"{place}: is of format version {said['version']}, written by lengthwise "
                    f"{said.get('library')}, and this one reads version {VERSION}; train it again"
                )
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not all(bool(each.isfinite().all()) for each in weights.values()):
            raise ValueError("some of its weights are no numbers")
        ranker = BiEncoder(
            weights["table"], Shape(**said["shape"]), said["tokenizer"], said["trained"]
        )
        ranker.load_state_dict(weights)
        return ranker.eval().requires_grad_(False)
    except RecipeError:
        raise
    except _DAMAGED as error:
        raise RecipeError(
            f"{place}: is damaged ({first_line(error)}); put it back, or train it again"
        ) from None


def require_reads(ranker: BiEncoder, path: str, model: AdaptedModel) -> None:
    """Compares the tokenizer of a ranker with a model's, as far as the model tells of its own.

    Args:
        ranker: that will score the model's texts.
        path: of its file, for messages.
        model: whose tokens it will be given.

    Raises:
        Refused: where its tokens are others.
    """
    way = "train one for this model by `lengthwise ranker train`, or name another file"
    own = model.tokenizer
    if own is not None and ranker.tokenizer and fingerprint(own) != ranker.tokenizer:
        raise Refused(f"{path}: this ranker reads the tokens of another tokenizer", way)
    if len(ranker.table) < model.vocab_size:
        raise Refused(
            f"{path}: this ranker knows {len(ranker.table):,} tokens, and this model has "
            f"{model.vocab_size:,}",
            way,
        )


__all__ = [
    "HOW", "KEY", "PREFIX", "SUFFIX", "VERSION", "BiEncoder", "Ranker", "Shape", "load_ranker",
    "require_reads", "save_ranker",
]  # fmt: skip
