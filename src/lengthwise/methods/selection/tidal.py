"""TidalDecode: two layers choose tokens by full attention, and those between read the same ones.

Yang et al., "TidalDecode: Fast and Accurate LLM Decoding with Position Persistent Sparse
Attention", ICLR 2025, arXiv:2410.05076.

Which tokens matter changes little from layer to layer. So a decoding step reads everything in the
first layers, in a selection layer and in one re-selection layer. There each query head notes the
tokens with its largest logits. Every other layer attends to what the last selection layer before it
noted, head h to the tokens of its head h. Prefill is full.

    layers 0 .. dense - 1        all keys
    layer dense, layer reselect  all keys, and S_h = the k keys with the largest q_h . k
    other layers                 keys of S_h alone

The re-selection layer depends on the model. It is the one with the largest recall, measured once:
the share of a layer's own top-k that is in the set it would be given, summed over the layers
(`lengthwise calibrate tidal`).

Cache correction: entries of written tokens have seen a part of the keys only, in most layers. With
`correct` they are read again in one piece, seeing everything, each time so many were written.

Defaults are those of the released code: k 256, `dense` 2, a set for each query head, no correction
(128 tokens where it is used).

Differences: the newest tokens are a window that is read in any case, and the budget counts it with
its overhang, so that 320 is a k of 241 to 256. A set may be one for all heads (`votes=all`): the
largest sums over heads of their softmax. The authors' correction also says the last token again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.kernels.products import row_products
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.retention import Renewal
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.engine.rereading import Rereading
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Method, Paper, Question, option
from lengthwise.methods.selection.reading import (
    by_key_head,
    check_budget,
    check_window,
    chosen_tokens,
    far_keys,
)
from lengthwise.methods.selection.recall import best_layer, layer_recall
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

NOTE = "tidal"
VOTES = ("head", "all")


@dataclass(frozen=True)
class Tidal(Method):
    """Tokens chosen in two layers and read in those between; `budget` counts the window too."""

    name: ClassVar[str] = "tidal"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "TidalDecode: Fast and Accurate LLM Decoding with Position Persistent Sparse Attention",
        "Yang et al.",
        2025,
        arxiv="2410.05076",
        venue="ICLR",
        code="https://github.com/DerrickYLJ/TidalDecode",
    )
    best_known: ClassVar[str] = "tidal(reselect=17, votes=all)"
    decoding_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True

    budget: Budget = option(
        Budget(320), "tokens that layers between read in all, window included", bytes=False
    )
    window: int = option(64, "newest tokens, always read", low=1)
    dense: int = option(2, "first layers that read everything; the next one selects", low=0)
    reselect: int | None = option(
        None, "layer that selects again (none: that of the best recall); 0: no layer", low=0
    )
    votes: str = option(
        "head",
        "head: each query head has its own set; all: one set for all",
        None,
        None,
        VOTES,
    )
    correct: int = option(
        0, "tokens written after which their entries are computed again; 0: never", low=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.name, self.budget, self.window, 1, self.window)

    @classmethod
    def example(cls) -> Tidal:
        return cls(budget=Budget(24), window=8, dense=0)

    @classmethod
    def identity(cls, length: int) -> Tidal:
        return cls(budget=Budget(length + 128), dense=0)

    def check(self, model: AdaptedModel) -> None:
        if self.correct and any(layer.window for layer in model.layers):
            raise Refused(
                f"{self.name}(correct={self.correct}) reads written tokens again, and layers of "
                f"this {model.family!r} model have let go of what was before them",
                f"leave out correct, as in {self.name}(budget={self.budget})",
            )
        first, later = self._layers(model)
        if self.reselect and self.reselect not in later:
            raise Refused(
                f"{self.name}(reselect={self.reselect}): layer {first} of this {model.family!r} "
                f"model selects first, and {_range(later)} may select again",
                "leave out reselect, which finds the best one",
            )
        self.selectors(model)

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        check_window(self.name, self.budget, 0, 1, placement)

    def _layers(self, model: AdaptedModel) -> tuple[int, list[int]]:
        """The layer that selects first, and those behind it without a window of their own."""
        full = [layer.index for layer in model.layers if layer.window is None]
        behind = [index for index in full if index >= self.dense]
        if not behind:
            raise Refused(
                f"{self.name}(dense={self.dense}): no layer of this {model.family!r} model is left "
                "to read less",
                f"give dense={max(0, full[-1] - 1)} or less",
            )
        return behind[0], behind[1:]

    def placement(self, model: AdaptedModel) -> Placement:
        return Placement(window=self.window, anchored=True)

    def selectors(self, model: AdaptedModel) -> Callable[[LayerFacts], Selector | None]:
        if self.reselect is not None:
            return self.start_selector
        first, later = self._layers(model)
        # With one layer behind, or none, there is nothing to choose.
        found = best_layer(layer_recall(model), first) if len(later) > 1 else None
        return replace(self, reselect=found or 0).start_selector

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return None if layer.index < self.dense else SharedTokens(self, layer)

    def start_renewal(self, model: AdaptedModel) -> Renewal | None:
        return Rereading(self.correct) if self.correct else None


def _range(layers: list[int]) -> str:
    return f"layers {layers[0]} to {layers[-1]}" if layers else "no other layer"


class SharedTokens:
    """What one layer reads, which another may have chosen. It holds no index."""

    query_block: int | None = None
    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: Tidal, layer: LayerFacts) -> None:
        self.method = method
        self.layer = layer

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        """There is no index to extend."""

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        """Every query plans for itself."""
        return None

    def tensors(self) -> list[Tensor | None]:
        """Nothing is held."""
        return []

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        method, last = self.method, queries.span[1]
        top = chosen_tokens(method.budget, last + 1 - queries.boundary, 1, last)
        if len(far) <= top:
            return None
        # A draft model of some of the layers may have left out the one that selects.
        if NOTE not in queries.notes or self.layer.index == method.reselect:
            queries.notes[NOTE] = self.best(queries.far[:, -1:], far, top)
            return None
        return SelectedKeys(queries.notes[NOTE].to(queries.far.device))

    def best(self, query: Tensor, far: KVStore, count: int) -> Tensor:
        """Far ids with the largest logits, ascending.

        Args:
            query: `[heads, 1, head_dim]`, as it reaches far keys.
            far: the far entries, more than count.
            count: how many are chosen.

        Returns:
            int64 `[heads, count]`, or `[count]` where all heads share a set.
        """
        key = far_keys(far)
        logits = row_products(by_key_head(query, len(key)), key).float()
        if self.method.votes == "head":
            scores = logits.view(len(query), -1)
        else:
            logits = logits * self.layer.scaling
            if self.layer.softcap is not None:
                logits = self.layer.softcap * (logits / self.layer.softcap).tanh()
            scores = logits.softmax(-1).sum((0, 1))
        return scores.topk(count, -1, sorted=False).indices.sort(-1).values


__all__ = ["SharedTokens", "Tidal"]
