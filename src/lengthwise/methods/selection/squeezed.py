"""Squeezed Attention: a query reads the keys of a fixed prompt whose clusters matter to it.

Hooper et al., "Squeezed Attention: Accelerating Long Context Length LLM Inference", ACL 2025,
arXiv:2411.09688.

The keys of a prompt are clustered once, when it is complete. Then a query is compared with the
centroids, and attends exactly to the keys of clusters above a threshold. It is one for all layers
and heads: so heads that need many keys read many, and others hardly any.

    clusters   k-means++ on normalised keys, for each key head; centroid = mean of the raw keys
    S_c      = exp(q . c / sqrt(d)) / sum_c' N_c' exp(q . c' / sqrt(d)),  N_c keys are in cluster c
    tau      = the `removed` quantile, over keys, heads and layers, of the mean S that the last
               `window` queries of the prompt give the cluster of a key
    read       keys with S_c >= tau, the last `window` tokens of the prompt, all later tokens

With two levels the fine clusters are clustered too. A query looks at these first, and the fine ones
inside those that fall below a threshold of their own have N_c = 0.

Everything is kept, and a prompt is read in full. What asks about a document should find it
clustered: `session.compress()` ends the prompt there, once for all questions.

Differences: keys are clustered per key head, and each query head selects. A question behind a
compressed session is fed as decoding is, so each of its tokens selects; the authors select once for
all of them. The window is that of other selections and overhangs by up to a quarter, 63 tokens at
most. A level with a single cluster removes nothing, and in their code all. They leave it open how
much the first level removes: here half, or `removed` where that is less.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise._utils.kmeans import kmeans, means
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.selection.reading import by_key_head, far_keys
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

TWO = Needs("levels=2", lambda method: method.levels == 2)


@dataclass(frozen=True)
class Squeezed(Method):
    """Clusters of a prompt's keys, with one threshold over all layers and heads."""

    name: ClassVar[str] = "squeezed"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "Squeezed Attention: Accelerating Long Context Length LLM Inference",
        "Hooper et al.",
        2025,
        arxiv="2411.09688",
        venue="ACL",
        code="https://github.com/SqueezeAILab/SqueezedAttention",
    )
    best_known: ClassVar[str] = "squeezed(clusters=0.25, levels=1)"
    decoding_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True

    removed: float = option(
        0.7, "share of the prompt's keys that is not read, over all layers and heads; 0: none", 0, 1
    )
    clusters: float = option(0.05, "clusters, as a share of the keys", low=0.001, high=1)
    levels: int = option(2, "1: clusters alone; 2: clusters of clusters before them", 1, 2)
    coarse: float = option(
        0.01, "clusters of the first level, as a share of the keys", 0.001, 1, needs=TWO
    )
    coarse_removed: float = option(
        0.5, "most that the first level removes, as a share of the keys", 0, 1, needs=TWO
    )
    window: int = option(
        100, "last tokens of the prompt: always read, and their queries set the threshold", low=1
    )
    seed: int = option(0, "of the clusters' first centres", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels == 2 and self.coarse > self.clusters:
            raise RecipeError(
                f"{self.name}(clusters={self.clusters:g}, coarse={self.coarse:g}): the first level "
                f"joins clusters of the second; give coarse={self.clusters:g} or less, or levels=1"
            )

    @classmethod
    def example(cls) -> Squeezed:
        return cls(removed=0.5, clusters=0.25, coarse=0.1, window=8)

    @classmethod
    def identity(cls, length: int) -> Squeezed:
        return cls(removed=0.0)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Squeezed:
        return replace(self, removed=round(1 - share, 4))

    def placement(self, model: AdaptedModel) -> Placement:
        return Placement(window=self.window, anchored=True)

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return ClusteredKeys(self, layer) if self.removed else None


@dataclass(frozen=True, eq=False)
class Level:
    """Clusters of one layer's keys, or of its finer clusters.

    centroids: float32 `[kv_heads, clusters, head_dim]`.
    sizes: keys in each, int64 `[kv_heads, clusters]`.
    labels: the cluster of each thing clustered, int32 `[kv_heads, things]`.
    """

    centroids: Tensor
    sizes: Tensor
    labels: Tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> Level:
        # Nobody writes to it, so forks hold the same.
        return self

    def labels_of(self, heads: int) -> Tensor:
        """The labels for each query head, int64 `[heads, things]`."""
        return self.labels.long().repeat_interleave(heads // len(self.labels), 0)

    def sizes_of(self, heads: int) -> Tensor:
        """The sizes for each query head, `[heads, clusters]`."""
        return self.sizes.repeat_interleave(heads // len(self.sizes), 0)


def cluster(points: Tensor, weights: Tensor, count: int, seed: int) -> Level:
    """A level of `count` clusters of points `[kv_heads, n, head_dim]`, which stand for weights keys
    `[kv_heads, n]`."""
    return level_of(points, weights, kmeans(F.normalize(points, dim=-1), count, seed), count)


def level_of(points: Tensor, weights: Tensor, labels: Tensor, count: int) -> Level:
    """The level of given clusters int64 `[kv_heads, n]`; see `cluster`."""
    centroids, _ = means(points, labels, count)
    sizes = torch.zeros_like(centroids[..., 0], dtype=torch.int64)
    return Level(centroids, sizes.scatter_add_(1, labels, weights), labels.int())


def estimates(query: Tensor, level: Level, sizes: Tensor, layer: LayerFacts) -> Tensor:
    """The estimated probability S of one key of each cluster.

    Args:
        query: as it reaches far keys, `[heads, n, head_dim]`.
        level: the clusters.
        sizes: keys of each that count, `[heads, clusters]`.
        layer: for the scale of its logits.

    Returns:
        float32 `[heads, n, clusters]`. Over clusters, sizes times this sum to 1.
    """
    grouped = by_key_head(query, len(level.centroids)).float()
    logits = torch.matmul(grouped, level.centroids.mT) * layer.scaling
    if layer.softcap is not None:
        logits = layer.softcap * (logits / layer.softcap).tanh()
    logits = logits.reshape(*query.shape[:2], -1)
    whole = (logits + sizes[:, None].float().log()).logsumexp(-1, keepdim=True)
    return (logits - whole).exp()


def quantile(values: Tensor, counts: Tensor, share: float) -> float:
    """The quantile of values `[n]`, each of which is there `counts` times, as NumPy takes it."""
    values, order = values.double().sort()
    upto = counts[order].cumsum(0)
    rank = share * (int(upto[-1]) - 1)
    ranks = torch.tensor([int(rank), min(int(rank) + 1, int(upto[-1]) - 1)])
    low, high = values[torch.searchsorted(upto, ranks, right=True)].tolist()
    return float(low + (rank - int(rank)) * (high - low))


class ClusteredKeys:
    """The clusters of one layer, the finest last, and what a query must give a key of each.

    levels: empty until a prompt is complete, and where it is within the window.
    bounds: the threshold of each level.
    """

    query_block: int | None = None
    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: Squeezed, layer: LayerFacts) -> None:
        self.method = method
        self.layer = layer
        self.window = method.window
        self.levels: tuple[Level, ...] = ()
        self.bounds: tuple[float, ...] = ()
        self.observed: list[Tensor] = []

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        """Nothing: what joins a complete prompt is read in any case."""

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        """Every query plans for itself."""
        return None

    def tensors(self) -> list[Tensor | None]:
        return [t for level in self.levels for t in (level.centroids, level.sizes, level.labels)]

    # The prompt is complete.

    def index_prompt(self, queries: Tensor, far: KVStore) -> None:
        """Clusters the keys, and notes what the last queries give those of each cluster."""
        self.levels = self.build(far_keys(far).float())
        heads = len(queries)
        self.observed = [
            estimates(queries, level, level.sizes_of(heads), self.layer).mean(1)
            for level in self.levels
        ]

    def build(self, keys: Tensor) -> tuple[Level, ...]:
        """The levels of keys `[kv_heads, n, head_dim]`, the finest last."""
        method, size = self.method, keys.shape[1]
        ones = torch.ones(keys.shape[:2], dtype=torch.int64, device=keys.device)
        fine = self.cluster(keys, ones, max(1, int(method.clusters * size)))
        if method.levels == 1:
            return (fine,)
        return self.cluster(fine.centroids, fine.sizes, max(1, int(method.coarse * size))), fine

    def cluster(self, points: Tensor, weights: Tensor, count: int) -> Level:
        """See `cluster`."""
        return cluster(points, weights, count, self.method.seed)

    def agree(self, layers: Seq[ClusteredKeys]) -> None:
        """One threshold a level, for all layers and heads."""
        shares = [min(self.method.removed, self.method.coarse_removed), self.method.removed]
        bounds = [
            self.bound(layers, level, share)
            for level, share in enumerate(shares[-self.method.levels :])
        ]
        for each in layers:
            each.bounds, each.observed = tuple(bounds), []

    def bound(self, layers: Seq[ClusteredKeys], level: int, share: float) -> float:
        """What removes this share of all keys at a level. A single cluster says nothing: 0."""
        if self.levels[level].sizes.shape[1] == 1:
            return 0.0
        values = [each.observed[level] for each in layers]
        counts = [
            each.levels[level].sizes_of(len(v)) for each, v in zip(layers, values, strict=True)
        ]
        every, keys = (torch.cat([t.flatten().cpu() for t in each]) for each in (values, counts))
        return quantile(every, keys, share)

    # A query comes.

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        if not self.levels:
            return None
        kept = self.kept(queries.far[:, -1:])
        choice = selected(kept, far.key_heads, len(far))
        # A device is asked only where some key head reads all.
        return None if choice.ids.shape[1] == len(far) and bool(kept.all()) else choice

    def kept(self, query: Tensor) -> Tensor:
        """Which keys of the prompt a query `[heads, 1, head_dim]` reads: bool `[heads, n]`."""
        heads = len(query)
        inside = torch.ones_like(self.levels[0].sizes_of(heads), dtype=torch.bool)
        for level, bound in zip(self.levels, self.bounds, strict=True):
            share = estimates(query, level, level.sizes_of(heads) * inside, self.layer)[:, 0]
            inside = ((share >= bound) & inside).gather(1, level.labels_of(heads))
        return inside


def selected(kept: Tensor, kv_heads: int, count: int) -> SelectedKeys:
    """Keys as they are read: for each key head what any of its query heads keeps.

    Key heads with fewer keys than others are given some that nobody sees.

    Args:
        kept: bool `[heads, n]`, of the first n far entries.
        kv_heads: key heads.
        count: far entries. Those from n on are read by all.
    """
    heads, size = kept.shape
    each = kept.unflatten(0, (kv_heads, -1))
    union = each.any(1)
    held = union.sum(1)
    width = int(held.max())
    spare = ~union & ((~union).cumsum(1) <= (width - held)[:, None])
    ids = (union | spare).nonzero()[:, 1].view(kv_heads, width)
    mask = each.gather(2, ids[:, None].expand(-1, heads // kv_heads, -1)).flatten(0, 1)
    later = torch.arange(size, count, device=ids.device).expand(kv_heads, -1)
    ids, mask = torch.cat([ids, later], 1), F.pad(mask, (0, count - size), value=True)
    return SelectedKeys(ids, mask[:, None])


__all__ = ["ClusteredKeys", "Level", "Squeezed"]
