"""Bases of a model's keys and values as they are kept: trained ones with the order in which heads
lose coordinates, or those of PCA."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from rich.console import Console

from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods.calibration import SMALL, artefact_path, find, load, save
from lengthwise.methods.codecs.projection_training import Training, train
from lengthwise.methods.codecs.projections import (
    PARTS,
    AllBases,
    Bases,
    Progress,
    heads_of,
    packed,
    principal,
    unpacked,
)
from lengthwise.methods.codecs.rank_search import search
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

TRAINED, PCA = "matryoshka", "matryoshka-pca"
# Raised when what is stored, or what it means, changes.
VERSION = 1


@dataclass(frozen=True, eq=False)
class LayerBases:
    """Of one layer: bases of keys and of values, and losses of all layers in their order.

    losses: the share of all numbers that is left behind each, and the kind and head that lost 1 /
    PARTS of its coordinates, None for another layer's. Empty for PCA.
    """

    bases: tuple[Bases, Bases]
    losses: tuple[tuple[float, tuple[int, int] | None], ...]

    def equal(self, share: float) -> list[list[int]]:
        """Ranks of keys and of values where all heads keep the same share, to one coordinate.

        Args:
            share: of the numbers of the layer.
        """
        sizes = [each.mean.shape[1] for each in self.bases for _ in each.mean]
        upto = [round(share * sum(sizes[:count])) for count in range(len(sizes) + 1)]
        ranks = [max(1, stop - start) for start, stop in pairwise(upto)]
        heads = len(self.bases[0].mean)
        return [ranks[:heads], ranks[heads:]]

    def searched(self, share: float) -> list[list[int]]:
        """Ranks of keys and of values by the order of losses.

        Args:
            share: of the numbers of the whole model, to half a loss.
        """
        parts = [[PARTS] * len(each.mean) for each in self.bases]
        left = 1.0
        for after, mine in self.losses:
            if left - share <= share - after:
                break
            left = after
            if mine is not None:
                parts[mine[0]][mine[1]] -= 1
        return [[max(1, each.mean.shape[1] * n // PARTS) for n in own]
                for each, own in zip(self.bases, parts, strict=True)]  # fmt: skip


_FOUND: dict[bool, WeakKeyDictionary[LayerFacts, LayerBases]] = {
    True: WeakKeyDictionary(), False: WeakKeyDictionary(),
}  # fmt: skip


def calibrate_bases(
    model: AdaptedModel, how: Training | None = None,
    progress: tuple[Progress | None, Progress | None] = (None, None),
) -> dict[str, Any]:  # fmt: skip
    """Trains bases, and finds the order in which heads lose coordinates.

    Args:
        model: the adapted model.
        how: bases are trained; None is the setting of `lengthwise calibrate matryoshka`.
        progress: of training and of the search.
    """
    bases = train(model, principal(model), how, progress[0])
    return stored(bases, search(model, bases, progress[1]))


def keep_bases(model: AdaptedModel, found: dict[str, Any]) -> Path:
    """Keeps trained bases in the cache, and uses them from now on.

    Args:
        model: whose bases they are.
        found: as `calibrate_bases` gives them.

    Returns:
        Where they lie.
    """
    path = save(TRAINED, model, found)
    _remember(model, True, found)
    return path


def load_bases(model: AdaptedModel, trained: bool) -> None:
    """Makes `bases_of` know the bases of a model.

    Args:
        model: of which trained ones have been kept. Those of PCA are measured if it is small.
        trained: trained ones; else those of PCA.

    Raises:
        Refused: where there are none, with the command, or those of another version.
        LengthwiseError: for a damaged file.
    """
    if all(layer in _FOUND[trained] for layer in model.layers if layer.window is None):
        return
    if not trained:
        _remember(model, False, _principal_once(model))
        return
    found = load(TRAINED, model)
    if found.get("version") != VERSION:
        raise Refused(
            f"matryoshka: the bases kept for this {model.family!r} model are of another version of "
            "lengthwise", "run `lengthwise calibrate matryoshka` again",
        )  # fmt: skip
    _remember(model, True, found)


def bases_of(layer: LayerFacts, trained: bool) -> LayerBases:
    """The bases of a layer.

    Args:
        layer: of a model that `load_bases` was asked of.
        trained: as it was asked.

    Raises:
        LengthwiseError: where it was not.
    """
    if layer not in _FOUND[trained]:
        raise LengthwiseError("matryoshka: the bases of this model were not loaded: resolve the "
                              "recipe first (lengthwise.recipes.resolve)")  # fmt: skip
    return _FOUND[trained][layer]


def stored(bases: AllBases, order: Seq[Seq[int]]) -> dict[str, Any]:
    """Bases as JSON holds them.

    Args:
        bases: of all layers.
        order: [kind, layer, head] of every loss; empty where none was searched.
    """
    layers = [
        None if pair is None
        else [{"mean": packed(b.mean), "basis": packed(b.basis)} for b in pair]
        for pair in bases
    ]  # fmt: skip
    return {"version": VERSION, "layers": layers, "order": [list(each) for each in order]}


def _principal_once(model: AdaptedModel) -> dict[str, Any]:
    """PCA's bases, kept ones or measured now; raises Refused for a large model."""
    found = find(PCA, model)
    if found is not None and found.get("version") == VERSION:
        return found
    if model.model.num_parameters() > SMALL:
        raise Refused(
            f"matryoshka(trained=false) is for models of at most {SMALL:,} parameters, which can "
            "be measured at once", "run `lengthwise calibrate matryoshka`, and leave trained out",
        )  # fmt: skip
    Console(markup=False, stderr=True).print(
        "matryoshka: measuring this model's keys and values, once", soft_wrap=True
    )
    found = stored(principal(model), [])
    save(PCA, model, found)
    return found


def _remember(model: AdaptedModel, trained: bool, found: dict[str, Any]) -> None:
    """Takes bases for those of a model. Raises LengthwiseError where they are not."""
    try:
        layers = [_layer(facts, held)
                  for facts, held in zip(model.layers, found["layers"], strict=True)]  # fmt: skip
        losses = _losses(model, found["order"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        kind = TRAINED if trained else PCA
        path = artefact_path(kind, model)
        anew = "`lengthwise calibrate matryoshka` makes them" if trained else "delete the file: the"
        anew += " anew" if trained else " next run makes them anew"
        raise LengthwiseError(f"{path}: these bases are damaged; {anew}") from error
    for facts, pair in zip(model.layers, layers, strict=True):
        if pair is not None:
            own = tuple((left, (kind, head) if layer == facts.index else None)
                        for left, (kind, layer, head) in losses)  # fmt: skip
            _FOUND[trained][facts] = LayerBases(pair, own)


def _layer(facts: LayerFacts, held: Any) -> tuple[Bases, Bases] | None:
    """The bases of a layer; raises ValueError where they are none."""
    if (held is None) != (facts.window is not None):
        raise ValueError("bases for a layer with a window, or none for one without")
    if held is None:
        return None
    key, value = (
        Bases(unpacked(each["mean"], facts.device), unpacked(each["basis"], facts.device))
        for each in held
    )
    for each, size in ((key, facts.head_dim), (value, facts.value_dim)):
        shape = (facts.num_kv_heads, size)
        if each.mean.shape != shape or each.basis.shape != (*shape, size):
            raise ValueError("bases of other sizes")
        if not bool(each.mean.isfinite().all() and each.basis.isfinite().all()):
            raise ValueError("bases that are no numbers")
    return key, value


def _losses(model: AdaptedModel, order: Any) -> list[tuple[float, tuple[int, int, int]]]:
    """Of each loss the share of numbers that is left, and the head. Raises ValueError for one that
    is none, or with none left."""
    sizes = {(kind, layer, head): (model.layers[layer].value_dim if kind else
                                   model.layers[layer].head_dim)
             for kind, layer, head in heads_of(model)}  # fmt: skip
    total, parts = sum(sizes.values()), dict.fromkeys(sizes, PARTS)
    left, found = total, []
    for kind, layer, head in order:
        mine = (int(kind), int(layer), int(head))
        if mine not in parts or parts[mine] < 2:
            raise ValueError("a head that is none loses coordinates, or one that has none")
        before = sizes[mine] * parts[mine] // PARTS
        parts[mine] -= 1
        left -= before - max(1, sizes[mine] * parts[mine] // PARTS)
        found.append((left / total, mine))
    return found


__all__ = [
    "PCA", "TRAINED", "VERSION", "LayerBases", "bases_of", "calibrate_bases", "keep_bases",
    "load_bases", "stored",
]  # fmt: skip
