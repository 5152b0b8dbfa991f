"""Vectors in clusters: k-means, and how many clusters fit best, by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise.errors import LengthwiseError

# Most clusters that are tried where none is named, starts of each k-means, and vectors of which the
# silhouette is taken.
MOST, STARTS, SAMPLE = 10, 10, 2000

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Clusters:
    """labels: the cluster of each vector, `[vectors]`. centres: their means, `[clusters, dim]`."""

    labels: NDArray[np.int32]
    centres: Vectors

    def by_size(self) -> list[int]:
        """The clusters, the largest one first; of equal ones the one that begins first."""
        members = [np.flatnonzero(self.labels == n) for n in range(len(self.centres))]
        return sorted(range(len(members)), key=lambda n: (-len(members[n]), members[n][0]))


def clusters(vectors: Vectors, count: int = 0, seed: int = 0) -> Clusters:
    """Vectors in clusters by Euclidean distance, each of at least one.

    Args:
        vectors: `[vectors, dim]`, at least one.
        count: clusters, fewer where fewer vectors differ. 0: as many, from 2 to `MOST`, as have the
            best silhouette.
        seed: of the draws.

    Raises:
        LengthwiseError: where scikit-learn is not installed.
    """
    library = _library()
    distinct = len(np.unique(vectors.round(5), axis=0))
    if count:
        return _fit(library, vectors, min(count, distinct), seed)
    tried = [_fit(library, vectors, n, seed) for n in range(2, min(MOST, distinct - 1) + 1)]
    if not tried:
        return _fit(library, vectors, distinct, seed)
    sample = SAMPLE if len(vectors) > SAMPLE else None

    def silhouette(found: Clusters) -> float:
        score = library.metrics.silhouette_score(
            vectors, found.labels, sample_size=sample, random_state=seed
        )
        return float(score)

    return max(tried, key=silhouette)


def _fit(library: Any, vectors: Vectors, count: int, seed: int) -> Clusters:
    found = library.cluster.KMeans(n_clusters=count, n_init=STARTS, random_state=seed).fit(vectors)
    return Clusters(found.labels_, found.cluster_centers_)


def _library() -> Any:
    try:
        import sklearn.cluster
        import sklearn.metrics
    except ModuleNotFoundError:
        raise LengthwiseError(
            "clusters need the package scikit-learn: pip install 'lengthwise[prompting]'"
        ) from None
    return sklearn


__all__ = ["Clusters", "Vectors", "clusters"]
