"""k-means of several sets of points at once, in torch, where the points lie.

    seeds      k-means++: each next centre is a point, drawn by its squared distance to the nearest
    rounds     every point joins the nearest centre, every centre moves to the mean of its points

The keys of all heads of a layer are so many sets. Each product then serves all of them, on a GPU
too, and no library beyond torch is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS, TOLERANCE = 300, 1e-4
# Most numbers of a block of point-centre products: 64 MB in float32.
_BLOCK = 1 << 24


def kmeans(
    points: Tensor, count: int, seed: int = 0, rounds: int = ROUNDS, tolerance: float = TOLERANCE
) -> Tensor:
    """Clusters each set of points by Euclidean distance.

    The draws are those of a generator on the CPU, so that devices agree.

    Args:
        points: float32 `[sets, n, dim]`.
        count: clusters of each set; from n on every point is its own.
        seed: of the draws.
        rounds: most rounds.
        tolerance: ends where a round lowers the sum of squared distances by less than this share.

    Returns:
        The cluster of each point, int64 `[sets, n]`, from 0 to count - 1. Some may stay empty.
    """
    sets, size = points.shape[:2]
    if count >= size:
        return torch.arange(size, device=points.device).expand(sets, -1)
    centres = seeds(points, count, seed)
    before = torch.inf
    for _ in range(rounds):
        labels, total = nearest(points, centres)
        if before - total <= tolerance * total:
            break
        before = total
        found, sizes = means(points, labels, count)
        centres = torch.where(sizes[..., None] > 0, found, centres)
    return labels


def seeds(points: Tensor, count: int, seed: int = 0) -> Tensor:
    """First centres by k-means++.

    Args:
        points: float32 `[sets, n, dim]`.
        count: centres of each set.
        seed: of the draws.

    Returns:
        `[sets, count, dim]`, which are points.
    """
    sets, size = points.shape[:2]
    draws = torch.rand(
        count, sets, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(points.device)
    every = torch.arange(sets, device=points.device)
    norms = points.square().sum(-1)
    distance = torch.full_like(norms, torch.inf)
    weight = torch.ones_like(norms)
    found = []
    for draw in draws:
        heap = weight.cumsum(-1, dtype=torch.float64)
        chosen = torch.searchsorted(heap, draw * heap[:, -1:], right=True)[:, 0].clamp_max(size - 1)
        centre = points[every, chosen]
        found.append(centre)
        products = torch.bmm(points, centre[..., None])[..., 0]
        away = norms - 2 * products + norms[every, chosen, None]
        weight = distance = torch.minimum(distance, away.clamp_min(0))
    return torch.stack(found, 1)


def nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, float]:
    """The nearest centre of every point, and the sum of all squared distances.

    Args:
        points: float32 `[sets, n, dim]`.
        centres: float32 `[sets, count, dim]`.

    Returns:
        int64 `[sets, n]`, and a number.
    """
    half = centres.square().sum(-1)[:, None] / 2
    block = max(1, _BLOCK // (len(centres) * centres.shape[1]))
    found = [
        torch.baddbmm(half, part, centres.mT, beta=-1).max(-1) for part in points.split(block, 1)
    ]
    best = torch.cat([each.values for each in found], 1)
    total = points.square().sum(-1) - 2 * best
    return torch.cat([each.indices for each in found], 1), float(total.sum(dtype=torch.float64))


def means(points: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean and the size of each cluster.

    Sums go cluster by cluster, in the order of the points: twice the same sums give the same bits.

    Args:
        points: float32 `[sets, n, dim]`.
        labels: int64 `[sets, n]`.
        count: clusters.

    Returns:
        `[sets, count, dim]`, 0 for an empty cluster, and int64 `[sets, count]`.
    """
    sets, _, dim = points.shape
    first = torch.arange(sets, device=points.device)[:, None] * count
    whole = (labels + first).flatten()
    sizes = torch.bincount(whole, minlength=sets * count)
    grouped = points.flatten(0, 1)[whole.argsort(stable=True)]
    sums = torch.segment_reduce(grouped, "sum", lengths=sizes, axis=0)
    found = sums / sizes.clamp_min(1)[:, None]
    return found.view(sets, count, dim), sizes.view(sets, count)


__all__ = ["kmeans", "means", "nearest", "seeds"]
