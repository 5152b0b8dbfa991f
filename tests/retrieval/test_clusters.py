"""clusters: k-means, and how many clusters."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.retrieval.clusters import Clusters, Vectors, clusters


def heaps(*sizes: int) -> Vectors:
    """Points around corners of a square, so many at each."""
    draws = np.random.default_rng(0)
    corners = [(0, 0), (0, 9), (9, 0), (9, 9)]
    points = [draws.normal(corner, 0.1, (size, 2))
              for corner, size in zip(corners, sizes, strict=False)]  # fmt: skip
    return np.concatenate(points).astype(np.float32)


@pytest.mark.parametrize("count", [0, 3])
def test_heaps_are_found_and_counted(count: int) -> None:
    found = clusters(heaps(5, 9, 7), count)
    assert [len(set(part)) for part in np.split(found.labels, [5, 14])] == [1, 1, 1]
    assert len(found.centres) == 3 and len(set(found.labels.tolist())) == 3
    assert [int((found.labels == n).sum()) for n in found.by_size()] == [9, 7, 5]
    for n in found.by_size():
        members = heaps(5, 9, 7)[found.labels == n]
        assert np.allclose(found.centres[n], members.mean(0), atol=1e-4)


def test_equal_clusters_stand_in_the_order_in_which_they_begin() -> None:
    assert Clusters(np.array([2, 0, 1, 1], np.int32), np.zeros((3, 1), np.float32)).by_size() == [
        1, 2, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(("points", "expected"), [(1, 1), (2, 2), (3, 2)])
def test_few_vectors_have_few_clusters(points: int, expected: int) -> None:
    assert len(clusters(heaps(1, 1, 1)[:points]).centres) == expected


@pytest.mark.filterwarnings("error")
def test_no_more_clusters_than_vectors_that_differ() -> None:
    same = np.ones((6, 2), np.float32)
    assert len(clusters(same).centres) == len(clusters(same, 4).centres) == 1
    same[3:] = 0
    assert len(clusters(same, 4).centres) == 2


def test_the_same_seed_gives_the_same_clusters() -> None:
    points = np.random.default_rng(1).normal(size=(90, 4)).astype(np.float32)
    first, second = clusters(points, 5, 7), clusters(points, 5, 7)
    assert (first.labels == second.labels).all() and (first.centres == second.centres).all()


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "sklearn.cluster", "sklearn.metrics"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        LengthwiseError, match=r"scikit-learn: pip install 'lengthwise\[prompting]'"
    ):
        clusters(heaps(2, 2))
