"""MatryoshkaKV: keys and values in trained orthogonal bases, of which the first coordinates stay.

Lin et al., "MatryoshkaKV: Adaptive KV Compression via Trainable Orthogonal Projection", ICLR 2025,
arXiv:2410.14731.

In a good basis most of a key, or of a value, lies in few coordinates. Each layer and key head has
an orthogonal basis for each, which begins as that of PCA. It is trained so that predictions stay
when only the first r coordinates are kept, whatever r is. How many each head keeps is searched.

    stored     k' = (k - mu_k) U_k[:, :r],   v' = (v - mu_v) U_v[:, :r]
    read       k = mu_k + k' U_k[:, :r]^T,   v = mu_v + v' U_v[:, :r]^T
    training   KL to the whole model and its loss, ranks drawn anew for each head at every step
    ranks      heads lose d/4 at a time, those first that move the last hidden state least

Keys are rotated ones. `lengthwise calibrate matryoshka` trains (`projection_training.py`) and
searches (`rank_search.py`): minutes for a small model. With `searched=false` all heads keep the
same share, and with `trained=false` bases are those of PCA as well, measured at once.

Differences. U is U_0 C(X), with C Cayley's map and U_0 the basis of PCA; the authors find the X
whose C(X) is U_0 and train that. X starts at 0 here, and no column has to change its sign. Means
stay as measured. The model itself is not tuned, which the authors offer beside. The text is this
package's default document. A prompt is read as by full attention, and the newest `residual` tokens
stay plain, so that a draft need not stop at every token; the authors encode all. `first` oldest
tokens may stay plain, too: many heads rest on them. Entries are read by decoding them, which gives
the logits that queries in the basis would give. Bases belong to the model and are not counted among
the bytes of a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import Encoded, KVEntries, concatenate
from lengthwise.engine.kv_cache.retention import CacheUpdate
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.codecs.learned_bases import bases_of, load_bases
from lengthwise.methods.codecs.projections import PARTS, Bases
from lengthwise.methods.codecs.residual import ResidualCodec, join_index
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

# Tokens encoded at a time.
STEP = 32
_TRAINED = Needs("trained=true", lambda method: method.trained)


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
    best_known: ClassVar[str] = "matryoshka(first=4)"

    share: float = option(
        0.4, "of an encoded entry's numbers that stays; 1: all", low=1 / PARTS, high=1.0
    )
    residual: int = option(32, "newest tokens kept whole", low=1)
    first: int = option(0, "oldest tokens kept whole", low=0, high=STEP)
    trained: bool = option(True, "trained bases; else those of PCA and equal ranks")
    searched: bool = option(True, "searched ranks; else equal ones", needs=_TRAINED)

    @classmethod
    def identity(cls, length: int) -> Matryoshka:
        return cls(share=1.0)

    @classmethod
    def example(cls) -> Matryoshka:
        return cls(share=0.5, residual=8, trained=False)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Matryoshka:
        layers = [layer for layer in model.layers if layer.window is None]
        plain = sum(layer.entry_numbers for layer in layers) * model.dtype.itemsize
        whole = self.residual + STEP + self.first
        encoded = (length - self.residual) // STEP * STEP - self.first
        if share == 1 or encoded <= 0:
            return replace(self, share=1.0)
        ids = 4 * len(layers) * (encoded + whole)
        left = ((share * length - whole) * plain - ids) / (plain * encoded)
        return replace(self, share=round(min(1.0, max(1 / PARTS, left)), 4))

    def check(self, model: AdaptedModel) -> None:
        if self.share < 1:
            load_bases(model, self.trained)

    def start_codec(self, layer: LayerFacts) -> MatryoshkaCodec | None:
        if self.share == 1:
            return None
        known = _SIDES.setdefault(layer, {})
        found = bases_of(layer, self.trained)
        searched = self.trained and self.searched
        how = (id(found), searched, self.share)
        if how not in known:
            ranks = found.searched(self.share) if searched else found.equal(self.share)
            key, value = (Side.of(*each) for each in zip(found.bases, ranks, strict=True))
            # The bases are held too: another object must not get their id.
            known[how] = found, (key, value)
        return MatryoshkaCodec(known[how][1], self.residual, self.first)

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens, birth ids included."""
        codec = self.start_codec(layer)
        if codec is None:
            return layer.entry_numbers * dtype.itemsize + 4
        return codec.bytes_held(layer, dtype, n) / n


@dataclass(frozen=True, eq=False)
class Side:
    """Keys or values of some heads of a layer, with their bases cut to the largest rank.

    mean: `[kv_heads, d]`. basis: `[kv_heads, d, rank]`. kept: which of the kv_heads * rank
    coordinates are stored, int64 `[sum of ranks]`. float32; all sequences share them.
    """

    mean: Tensor
    basis: Tensor
    kept: Tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> Side:
        return self

    @classmethod
    def of(cls, bases: Bases, ranks: Seq[int]) -> Side:
        """Bases of some heads, cut.

        Args:
            bases: of these heads.
            ranks: of each.
        """
        most = max(ranks)
        places = [head * most + n for head, rank in enumerate(ranks) for n in range(rank)]
        kept = torch.tensor(places, device=bases.mean.device)
        return cls(bases.mean, bases.basis[..., :most].contiguous(), kept)

    def heads(self, ids: Tensor) -> Side:
        """The same for some of its heads.

        Args:
            ids: which ones, int64 `[m]`.
        """
        most = self.basis.shape[-1]
        ranks = torch.bincount(self.kept // most, minlength=len(self.mean))[ids]
        return Side.of(Bases(self.mean[ids], self.basis[ids]), ranks.tolist())

    def encode(self, x: Tensor) -> Tensor:
        """x `[kv_heads, n, d]` -> coordinates `[n, sum of ranks]` in the dtype of x."""
        found = torch.bmm(x.float() - self.mean[:, None], self.basis)
        return found.transpose(0, 1).flatten(1)[:, self.kept].to(x.dtype)

    def decode(self, found: Tensor) -> Tensor:
        """Undoes `encode`, but for what was cut off."""
        heads, _, most = self.basis.shape
        rows = found.new_zeros(len(found), heads * most)
        rows[:, self.kept] = found
        wide = rows.view(-1, heads, most).transpose(0, 1)
        mean, basis = self.mean.to(found.dtype), self.basis.to(found.dtype)
        return torch.baddbmm(mean[:, None], wide, basis.mT)


# Of each layer, by the bases, whether ranks are searched, and the share.
_Sides = dict[tuple[int, bool, float], tuple[object, tuple[Side, Side]]]
_SIDES: WeakKeyDictionary[LayerFacts, _Sides] = WeakKeyDictionary()


class MatryoshkaCodec(ResidualCodec):
    """State of one layer: none but its bases and the settings."""

    def __init__(self, sides: tuple[Side, Side], residual: int, spared: int = 0) -> None:
        super().__init__(residual, STEP)
        self.sides = sides
        self.spared = spared

    def first(self, entries: KVEntries, tail: KVEntries, update: CacheUpdate) -> MatryoshkaBlock:
        heads = update.heads
        sides = self.sides if heads is None else tuple(side.heads(heads) for side in self.sides)
        spared = entries.slice(0, self.spared).clone() if self.spared else None
        block = MatryoshkaBlock.of(entries.slice(self.spared, len(entries)), sides)
        return replace(block, spared=spared)

    def more(self, entries: KVEntries, older: Encoded) -> MatryoshkaBlock:
        assert isinstance(older, MatryoshkaBlock)
        return MatryoshkaBlock.of(entries, older.sides)

    def close(self, entries: KVEntries) -> MatryoshkaBlock:
        return MatryoshkaBlock.of(entries, self.sides)

    @property
    def numbers(self) -> int:
        """Numbers of an encoded entry of all heads."""
        return sum(len(side.kept) for side in self.sides)

    def entry_bytes(self, heads: int, key: int, value: int) -> float:
        return self.numbers * 2 + 4

    def bytes_held(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        closed = self.encoded(n)
        spared = self.spared if closed else 0
        plain = (self.residual + self.step if closed else n) + spared
        held = self.numbers * (closed - spared) + layer.entry_numbers * plain
        return held * dtype.itemsize + 4 * (plain + closed - spared)


@dataclass(frozen=True)
class MatryoshkaBlock:
    """Encoded entries: key and value `[n, sum of ranks]`, index `[1 or kv_heads, n]`. spared: older
    ones that are plain."""

    key: Tensor
    value: Tensor
    rows: Tensor
    sides: tuple[Side, ...]
    spared: KVEntries | None = None

    @classmethod
    def of(cls, entries: KVEntries, sides: tuple[Side, ...]) -> MatryoshkaBlock:
        """Entries encoded, in memory of their own.

        Args:
            entries: plain ones.
            sides: of their keys and of their values.
        """
        key, value = sides
        return cls(key.encode(entries.key), value.encode(entries.value), entries.index.clone(),
                   sides)  # fmt: skip

    @property
    def index(self) -> Tensor:
        return self.rows if self.spared is None else join_index(self.spared.index, self.rows)

    def __len__(self) -> int:
        return self.rows.shape[1] + (0 if self.spared is None else len(self.spared))

    def tensors(self) -> list[Tensor]:
        plain = [] if self.spared is None else self.spared.tensors()
        return [self.key, self.value, self.rows, *plain]

    def join(self, newer: MatryoshkaBlock) -> MatryoshkaBlock:
        key, value = torch.cat([self.key, newer.key]), torch.cat([self.value, newer.value])
        return replace(self, key=key, value=value, rows=join_index(self.rows, newer.rows))

    def decode(self) -> KVEntries:
        key, value = self.sides
        found = KVEntries(key.decode(self.key), value.decode(self.value), self.rows)
        return found if self.spared is None else concatenate([self.spared, found])


__all__ = ["Matryoshka", "MatryoshkaBlock", "MatryoshkaCodec", "Side"]
