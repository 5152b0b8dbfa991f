"""MatryoshkaKV: keys and values in trained orthogonal bases, of which the first coordinates stay.

Lin et al., "MatryoshkaKV: Adaptive KV Compression via Trainable Orthogonal Projection", ICLR 2025,
arXiv:2410.14731.

In a good basis most of a key, or of a value, lies in few coordinates. Each layer and key head has
an orthogonal basis for each, which begins as that of PCA. It is trained so that predictions stay
when only the first r coordinates are kept, whatever r is. How many each head keeps is searched.

    stored     k' = (k - mu_k) U_k[:, :r],   v' = (v - mu_v) U_v[:, :r]
    read       k = mu_k + k' U_k[:, :r]^T,   v = mu_v + v' U_v[:, :r]^T
    training   KL to the whole model + loss, with ranks drawn anew for each head at every step
    ranks      heads lose d/4 at a time, those first that move the last hidden state least

Keys are rotated ones. `lengthwise calibrate matryoshka` trains and searches, minutes for a small
model. With `trained=false` bases are those of PCA, measured at once, and all heads keep the same
share.

Differences. U is U_0 C(X), with C Cayley's map and U_0 the basis of PCA; the authors find the X
whose C(X) is U_0 and train that. X starts at 0 either way it is meant, and no sign has to be
mended. Means stay as measured. The model itself is not tuned (the authors offer LoRA beside). The
text is this package's default document. The newest `residual` tokens stay plain, so that a draft
need not stop at every token; the authors encode all. Entries are read by decoding them, which
gives the same logits as queries in the basis do. Bases belong to the model and are not counted
among the bytes of a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from rich.console import Console
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.calibration import SMALL, find, load, save
from lengthwise.methods.codecs.projections import (
    PARTS,
    AllBases,
    Bases,
    Progress,
    packed,
    principal,
    search,
    train,
    unpacked,
)
from lengthwise.methods.codecs.residual import ResidualCodec, join_index
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

KIND, PCA_KIND = "matryoshka", "matryoshka-pca"
# Raised when what is stored, or what it means, changes.
VERSION = 1
# Tokens encoded at a time.
STEP = 32


@dataclass(frozen=True)
class _Found:
    """Of one layer: bases of keys and values, and how often a head lost a part, in order.

    lost: of all layers, whether it was this one, its kind and its head: None for another layer's.
    """

    bases: tuple[Bases, Bases]
    lost: tuple[tuple[int, int] | None, ...]


_TRAINED: WeakKeyDictionary[LayerFacts, _Found] = WeakKeyDictionary()
_PCA: WeakKeyDictionary[LayerFacts, _Found] = WeakKeyDictionary()


@dataclass(frozen=True)
class Matryoshka(Method):
    """Keys and values by their first coordinates in trained bases; share 1 leaves them alone."""

    name: ClassVar[str] = "matryoshka"
    question: ClassVar[Question] = Question.CODECS
    paper: ClassVar[Paper] = Paper(
        "MatryoshkaKV: Adaptive KV Compression via Trainable Orthogonal Projection",
        "Lin et al.",
        2025,
        arxiv="2410.14731",
        venue="ICLR",
        code="https://github.com/The-kamisato/MatryoshkaKV-cache",
    )
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True
    by_head: ClassVar[bool] = True

    share: float = option(0.4, "share of an entry's numbers that stay", low=1 / PARTS, high=1.0)
    residual: int = option(32, "newest tokens kept whole", low=1)
    trained: bool = option(True, "trained bases and searched ranks; else PCA and equal ranks")

    @classmethod
    def identity(cls, length: int) -> Matryoshka:
        return cls(share=1.0)

    @classmethod
    def example(cls) -> Matryoshka:
        return cls(share=0.5, residual=8, trained=False)

    def check(self, model: AdaptedModel) -> None:
        if self.share == 1 or all(layer in self._known for layer in model.layers):
            return
        if not self.trained:
            _remember(model, _PCA, _principal_once(model))
            return
        found = load(KIND, model)
        if found.get("version") != VERSION:
            raise Refused(
                f"matryoshka: the bases kept for this {model.family!r} model are of another "
                "version of lengthwise", "run `lengthwise calibrate matryoshka` again",
            )  # fmt: skip
        _remember(model, _TRAINED, found)

    @property
    def _known(self) -> WeakKeyDictionary[LayerFacts, _Found]:
        return _TRAINED if self.trained else _PCA

    def start_codec(self, layer: LayerFacts) -> MatryoshkaCodec | None:
        if self.share == 1:
            return None
        if layer not in self._known:
            raise LengthwiseError("matryoshka: the bases of this model were not loaded: resolve "
                                  "the recipe first (lengthwise.recipes.resolve)")  # fmt: skip
        found = self._known[layer]
        return MatryoshkaCodec(found.bases, self._ranks(layer, found), self.residual)

    def _ranks(self, layer: LayerFacts, found: _Found) -> list[list[int]]:
        """Coordinates that each head keeps, of keys and of values."""
        heads, sizes = layer.num_kv_heads, (layer.head_dim, layer.value_dim)
        if not self.trained:
            return [[max(1, int(size * self.share + 1e-9))] * heads for size in sizes]
        # Layers are alike, so each loss is the same number of all there is.
        parts = len(found.lost) * PARTS // (PARTS - 1)
        count = math.ceil((1 - self.share) * parts - 1e-6)
        ranks = [[PARTS] * heads, [PARTS] * heads]
        for each in found.lost[:count]:
            if each is not None:
                ranks[each[0]][each[1]] -= 1
        return [[max(1, size * left // PARTS) for left in own]
                for size, own in zip(sizes, ranks, strict=True)]  # fmt: skip

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens, birth ids included."""
        codec = self.start_codec(layer)
        if codec is None:
            return layer.entry_numbers * dtype.itemsize + 4
        return codec.bytes_held(layer, dtype, n) / n


class MatryoshkaCodec(ResidualCodec):
    """State of one layer: its bases cut to the ranks of its heads, in one matrix each."""

    def __init__(self, bases: tuple[Bases, Bases], ranks: Seq[Seq[int]], residual: int) -> None:
        super().__init__(residual, STEP)
        self.sides = tuple(Side.of(b, r) for b, r in zip(bases, ranks, strict=True))

    def close(self, entries: KVEntries) -> MatryoshkaBlock:
        key, value = (
            side.encode(x) for side, x in zip(self.sides, (entries.key, entries.value), strict=True)
        )
        return MatryoshkaBlock(key, value, entries.index.clone(), self.sides)

    def entry_bytes(self, heads: int, key: int, value: int) -> float:
        return self.numbers * 2 + 4

    @property
    def numbers(self) -> int:
        """Numbers of an encoded entry."""
        return sum(side.basis.shape[1] for side in self.sides)

    def bytes_held(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        wider = self.encoded(n) * self.numbers * (dtype.itemsize - 2)
        return super().bytes_held(layer, dtype, n) + wider


@dataclass(frozen=True)
class Side:
    """Keys or values of a layer. mean `[kv_heads * d]`, basis `[kv_heads * d, sum of ranks]`, zero
    but where a head meets its own coordinates; float32."""

    mean: Tensor
    basis: Tensor
    heads: int

    def __deepcopy__(self, memo: dict[int, Any]) -> Side:
        return self

    @classmethod
    def of(cls, bases: Bases, ranks: Seq[int]) -> Side:
        each = [basis[:, :rank] for basis, rank in zip(bases.basis, ranks, strict=True)]
        return cls(bases.mean.flatten(), torch.block_diag(*each), len(each))

    def encode(self, x: Tensor) -> Tensor:
        """x `[kv_heads, n, d]` -> coordinates `[n, sum of ranks]` in the dtype of x."""
        rows = x.transpose(0, 1).flatten(1).float()
        return ((rows - self.mean) @ self.basis).to(x.dtype)

    def decode(self, found: Tensor) -> Tensor:
        """Undoes `encode`, but for what was cut off."""
        rows = torch.addmm(self.mean.to(found.dtype), found, self.basis.T.to(found.dtype))
        return rows.unflatten(1, (self.heads, -1)).transpose(0, 1).contiguous()


@dataclass(frozen=True)
class MatryoshkaBlock:
    """Encoded entries: key and value `[n, sum of ranks]`, index as in KVEntries. sides: of the
    model, which every sequence shares."""

    key: Tensor
    value: Tensor
    index: Tensor
    sides: tuple[Side, ...]

    def __len__(self) -> int:
        return self.index.shape[1]

    def tensors(self) -> list[Tensor]:
        return [self.key, self.value, self.index]

    def join(self, newer: MatryoshkaBlock) -> MatryoshkaBlock:
        key, value = torch.cat([self.key, newer.key]), torch.cat([self.value, newer.value])
        return MatryoshkaBlock(key, value, join_index(self.index, newer.index), self.sides)

    def decode(self) -> KVEntries:
        key, value = (
            side.decode(x) for side, x in zip(self.sides, (self.key, self.value), strict=True)
        )
        return KVEntries(key, value, self.index)


# The artefacts.


def calibrate_bases(
    model: AdaptedModel, steps: int, progress: tuple[Progress, Progress]
) -> dict[str, Any]:
    """Bases that are trained, and the order in which heads lose coordinates.

    Args:
        model: the adapted model.
        steps: of training.
        progress: of training and of the search, see `projections`.
    """
    bases = train(model, principal(model), steps, progress[0])
    return _made(bases, search(model, bases, progress[1]))


def _principal_once(model: AdaptedModel) -> dict[str, Any]:
    """PCA's bases, kept ones or measured now; raises Refused for a large model."""
    found = find(PCA_KIND, model)
    if found is not None and found.get("version") == VERSION:
        return found
    if model.model.num_parameters() > SMALL:
        raise Refused(
            f"matryoshka(trained=false) is for models of at most {SMALL:,} parameters, which it "
            "can read a text with at once", "run `lengthwise calibrate matryoshka`, and leave "
            "trained out",
        )  # fmt: skip
    Console(stderr=True).print("matryoshka: measuring this model's keys and values, once",
                               soft_wrap=True)  # fmt: skip
    found = _made(principal(model), [])
    save(PCA_KIND, model, found)
    return found


def _made(bases: AllBases, order: list[list[int]]) -> dict[str, Any]:
    layers = [
        None if pair is None
        else [{"mean": packed(b.mean), "basis": packed(b.basis)} for b in pair]
        for pair in bases
    ]  # fmt: skip
    return {"version": VERSION, "layers": layers, "order": order}


def _remember(
    model: AdaptedModel, where: WeakKeyDictionary[LayerFacts, _Found], found: dict[str, Any]
) -> None:
    for index, (facts, stored) in enumerate(zip(model.layers, found["layers"], strict=True)):
        if stored is None:
            continue
        pair = [Bases(unpacked(each["mean"], facts.device), unpacked(each["basis"], facts.device))
                for each in stored]  # fmt: skip
        lost = tuple((kind, head) if layer == index else None
                     for kind, layer, head in found["order"])  # fmt: skip
        where[facts] = _Found((pair[0], pair[1]), lost)


__all__ = [
    "KIND", "Matryoshka", "MatryoshkaBlock", "MatryoshkaCodec", "Side", "calibrate_bases",
]  # fmt: skip
