"""The nearest neighbours of every vector, on disk: faiss where it is installed, else plain numpy.

Up to EXACT vectors are all compared with all. Beyond, faiss searches an inverted file of vectors
quantised to CODE bytes each, trained on a sample; a few true neighbours may be missed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.counter_rng import Ints, key, permutation
from lengthwise._utils.progress import Progress
from lengthwise.sequences.embeddings import Vectors
from lengthwise.sequences.errors import NotAsAskedError
from lengthwise.sequences.files import reserve, written_aside

NEAREST = 9
"""Neighbours of a document that are kept, itself not among them."""
EXACT = 100_000
WITHOUT_FAISS = 20_000
NOBODY = -1
CODE = 32
_BLOCK = 512
_PROBES = 64

Near = NDArray[Any]
"""Structured [documents, NEAREST]: `document` (int64; NOBODY where there are fewer) and `cosine`
(float32), the nearest first."""
NEAR = np.dtype([("document", np.int64), ("cosine", np.float32)])
Search = Callable[[Vectors, int], tuple[NDArray[np.float32], Ints]]


def neighbours(vectors: Vectors, path: Path, progress: Progress) -> Near:
    """The table at `path`, worked out unless it is there.

    Raises NotAsAskedError where there are too many vectors to do without faiss.
    """
    count = len(vectors)
    if not path.exists():
        progress.stage("finding neighbours", count, "documents")
        search = _searcher(vectors)
        with written_aside(path) as aside:
            table = np.memmap(aside, NEAR, "w+", shape=(count, NEAREST))
            reserve(table)
            for first in range(0, count, _BLOCK):
                block = np.array(vectors[first : first + _BLOCK])
                rows = np.arange(first, first + len(block))
                table[first : first + len(block)] = _others(rows, *search(block, NEAREST + 1))
                progress.advance(len(block), 0)
            table.flush()
    return np.memmap(path, NEAR, "r", shape=(count, NEAREST))


def _others(rows: Ints, cosines: NDArray[np.float32], found: Ints) -> Near:
    """The table's rows: what was found but for the document itself, equal cosines by number."""
    cosines = np.where((found == rows[:, None]) | (found < 0), -np.inf, cosines)
    out = np.empty((len(rows), NEAREST), NEAR)
    out["document"], out["cosine"] = NOBODY, -1
    for row in range(len(rows)):
        order = np.lexsort((found[row], -cosines[row]))[:NEAREST]
        order = order[np.isfinite(cosines[row][order])]
        out["document"][row, : len(order)] = found[row][order]
        out["cosine"][row, : len(order)] = cosines[row][order]
    return out


def _searcher(vectors: Vectors) -> Search:
    try:
        import faiss
    except ImportError as error:
        if len(vectors) > WITHOUT_FAISS:
            raise NotAsAskedError(
                f"--order icp of {len(vectors):,} documents needs faiss: pip install faiss-cpu "
                f"(without it up to {WITHOUT_FAISS:,}), or use --order by-repository"
            ) from error
        return lambda block, most: exact(vectors, block, most)
    return _faiss_searcher(faiss, vectors)


def exact(vectors: Vectors, block: Vectors, most: int) -> tuple[NDArray[np.float32], Ints]:
    """(cosines, numbers), both [block, most]: the nearest vectors to each of the block's."""
    cosines = block @ vectors.T
    most = min(most, len(vectors))
    found = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
    return np.take_along_axis(cosines, found, 1), found


def _faiss_searcher(faiss: Any, vectors: Vectors) -> Search:
    count, dimensions = vectors.shape
    if count <= EXACT:
        index = faiss.IndexFlatIP(dimensions)
    else:
        lists = int(4 * count**0.5)
        divided = next(d for d in range(CODE, 0, -1) if dimensions % d == 0)
        quantiser = faiss.IndexFlatIP(dimensions)
        index = faiss.IndexIVFPQ(
            quantiser, dimensions, lists, divided, 8, faiss.METRIC_INNER_PRODUCT
        )
        sample = np.sort(permutation(key(0, "neighbours"), count)[: 48 * lists])
        index.train(np.array(vectors[sample]))
        index.nprobe = min(_PROBES, lists)
    for first in range(0, count, 1 << 14):
        index.add(np.array(vectors[first : first + (1 << 14)]))

    def search(block: Vectors, most: int) -> tuple[NDArray[np.float32], Ints]:
        found: tuple[NDArray[np.float32], Ints] = index.search(block, most)
        return found

    return search
