"""k-means: what it finds, that it finds it again, and its parts against plain twins."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise._utils import kmeans as module
from lengthwise._utils.kmeans import kmeans, means, nearest, seeds

SETS, SIZE, DIM = 3, 200, 8


def points(seed: int = 0, size: int = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(SETS, size, DIM, generator=generator), dim=-1)


def spread(x: Tensor, labels: Tensor, count: int) -> float:
    """Sum of squared distances of points to the means of their clusters."""
    centres, _ = means(x, labels, count)
    own = centres.gather(1, labels[..., None].expand_as(x))
    return float((x - own).square().sum())


def test_groups_that_lie_apart_are_found() -> None:
    right = torch.arange(SIZE).expand(SETS, -1) % 5
    corners = 10 * torch.eye(DIM)[:5]
    x = corners[right] + 0.1 * points()
    labels = kmeans(x, 5)
    for row, truth in zip(labels, right, strict=True):
        together = row[:, None] == row
        assert torch.equal(together, truth[:, None] == truth)


def test_rounds_end_where_nothing_moves_and_are_no_worse_than_the_seeds() -> None:
    x = points()
    start = seeds(x, 12)
    first, total = nearest(x, start)
    labels = kmeans(x, 12, tolerance=0.0)
    assert spread(x, labels, 12) < spread(x, first, 12) < total
    centres, sizes = means(x, labels, 12)
    assert bool((sizes > 0).all()) and torch.equal(nearest(x, centres)[0], labels)
    assert spread(x, kmeans(x, 12, rounds=1), 12) == pytest.approx(spread(x, first, 12))


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    x = points()
    assert torch.equal(kmeans(x, 9, seed=3), kmeans(x.clone(), 9, seed=3))
    assert not torch.equal(kmeans(x, 9, seed=3), kmeans(x, 9, seed=4))


def test_seeds_are_points_and_far_ones_are_drawn() -> None:
    x = points()
    found = seeds(x, 7)
    for centres, own in zip(found, x, strict=True):
        assert all(bool((own == centre).all(-1).any()) for centre in centres)
        assert len(centres.unique(dim=0)) == 7
    # One point of a hundred lies far off: the second draw takes it, whatever the first was.
    lonely = torch.zeros(SETS, 100, DIM)
    lonely[:, 57] = 5
    drawn = torch.stack([seeds(lonely, 2, seed=seed) for seed in range(10)])
    assert bool((drawn == 5).all(-1).any(2).all())


def test_as_many_clusters_as_points_are_the_points() -> None:
    x = points(size=20)
    for count in (20, 50):
        assert torch.equal(kmeans(x, count), torch.arange(20).expand(SETS, -1))


def test_equal_points_leave_clusters_empty() -> None:
    x = points(size=3).repeat_interleave(10, 1)
    labels = kmeans(x, 8)
    centres, sizes = means(x, labels, 8)
    assert sizes.sum(1).tolist() == [30] * SETS and bool(centres.isfinite().all())
    assert spread(x, labels, 8) < 1e-6
    assert bool((centres[sizes == 0] == 0).all())


def test_nearest_in_blocks_is_nearest_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centres = points(), points(1, 11)
    found, total = nearest(x, centres)
    distances = torch.cdist(x, centres)
    assert torch.equal(found, distances.argmin(-1))
    assert total == pytest.approx(float(distances.amin(-1).square().sum()), rel=1e-5)
    monkeypatch.setattr(module, "_BLOCK", 100)
    blocks, again = nearest(x, centres)
    assert torch.equal(blocks, found) and again == pytest.approx(total)


def test_means_are_those_of_each_cluster() -> None:
    x, labels = points(), torch.randint(5, (SETS, SIZE), generator=torch.Generator().manual_seed(1))
    centres, sizes = means(x, labels, 6)
    for row in range(SETS):
        for each in range(5):
            own = x[row][labels[row] == each]
            assert int(sizes[row, each]) == len(own)
            assert torch.allclose(centres[row, each], own.mean(0), atol=1e-6)
    assert bool((sizes[:, 5] == 0).all()) and bool((centres[:, 5] == 0).all())


def test_clusters_are_as_tight_as_those_of_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    x = points(size=600)
    ours = spread(x, kmeans(x, 30), 30)
    theirs = torch.empty(SETS, 600, dtype=torch.int64)
    for row, own in enumerate(x):
        found = faiss.Kmeans(DIM, 30, niter=50, seed=1, min_points_per_centroid=1)
        found.train(own.numpy())
        theirs[row] = torch.from_numpy(found.index.search(own.numpy(), 1)[1][:, 0])
    assert ours < 1.03 * spread(x, theirs, 30)
