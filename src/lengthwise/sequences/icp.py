"""In-Context Pretraining: documents in an order in which neighbours are related.

Shi et al., "In-Context Pretraining: Language Modeling Beyond Document Boundaries", ICLR 2024,
arXiv:2310.10638.

The order is a path through the graph of nearest neighbours, each document once. It starts at a
document that few have for a neighbour, and goes on to the nearest one not visited yet. Where none
is left it jumps to the next such start. Rows are then shuffled (`--shuffle-rows`), not documents: a
row holds one subject, a batch many. The order is for methods whose rows are attended across
documents.

Near-duplicates are left out, and counted. A document is one where a neighbour with a lower number
stays, has a cosine of at least CLOSE, and shares more than ALIKE of all runs of three tokens
(Jaccard) among the first COMPARED. The authors' code compares the first hundred characters of
neighbours on the path, which in source code is often the licence.

Where ours differs: documents are embedded by hashed words unless a model is named. The paper takes
Contriever's first 510 tokens. The nearest are the nearest of all up to 100,000 documents. The path
starts as in the paper, where fewest are near; the authors' code starts anywhere. Their code ends a
stretch after 21 documents, and inserts those of shorter ones beside a neighbour elsewhere. Here a
stretch goes on while a neighbour is left, and stays as it is.

Memory: some 30 bytes a document; vectors and neighbours are memory maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.counter_rng import Ints
from lengthwise._utils.papers import Paper
from lengthwise._utils.progress import Progress
from lengthwise.sequences.embeddings import embed
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.files import read_json, write_json, written_aside
from lengthwise.sequences.neighbours import NOBODY, Near, neighbours
from lengthwise.sequences.orders import Stored
from lengthwise.sequences.token_store import TokenStore

PAPER = Paper(
    "In-Context Pretraining: Language Modeling Beyond Document Boundaries",
    "Shi et al.",
    2024,
    arxiv="2310.10638",
    venue="ICLR",
    code="https://github.com/swj0419/in-context-pretraining",
)
CLOSE = 0.8
ALIKE = 0.85
COMPARED = 1024
DUPLICATES = "near-duplicates of other documents"
_STRETCH = 1 << 14


def in_context(
    store: TokenStore, folder: Path, encoder: Encoder | None, model: str | None, progress: Progress
) -> Stored:
    """The order, and in its `left_out` the tokens of near-duplicates; kept in `folder`.

    encoder: of the corpus. model: folder of the model that embeds; None for hashed words.
    """
    path, facts = folder / "order.bin", folder / "icp.json"
    if not path.exists():
        vectors = embed(store, folder / "vectors", encoder, model, progress)
        near = neighbours(vectors, folder / "neighbours.bin", progress)
        left_out = duplicates(near, _alike(store))
        write_json(facts, _facts(store, np.flatnonzero(left_out)))
        progress.stage("walking the path", store.documents - int(left_out.sum()), "documents")
        with written_aside(path) as aside, aside.open("wb") as file:
            for documents in walk(near, left_out):
                file.write(documents.tobytes())
                progress.advance(len(documents), 0)
    found = read_json(facts)
    if found["documents"]:
        progress.note(f"left out {found['documents']:,} near-duplicates")
    return Stored(path, {DUPLICATES: found["tokens"]} if found["tokens"] else {})


def walk(near: Near, left_out: NDArray[np.bool_]) -> Iterator[Ints]:
    """The path in stretches: every document that is not left out, once."""
    visited = np.array(left_out)
    starts = np.argsort(_degrees(near), kind="stable")
    stretch: list[int] = []
    for start in starts:
        document = int(start)
        while document != NOBODY and not visited[document]:
            visited[document] = True
            stretch.append(document)
            if len(stretch) == _STRETCH:
                yield np.array(stretch, np.int64)
                stretch = []
            document = _next(near[document]["document"], visited)
    yield np.array(stretch, np.int64)


def _next(candidates: Ints, visited: NDArray[np.bool_]) -> int:
    """The first candidate that was not visited, NOBODY where there is none."""
    for candidate in candidates.tolist():
        if candidate != NOBODY and not visited[candidate]:
            return int(candidate)
    return NOBODY


def _degrees(near: Near) -> NDArray[np.int32]:
    """How many documents have each one for a neighbour."""
    found = np.zeros(len(near), np.int32)
    for first in range(0, len(near), _STRETCH):
        named = near[first : first + _STRETCH]["document"].ravel()
        np.add.at(found, named[named != NOBODY], 1)
    return found


def duplicates(near: Near, alike: Callable[[int, int], bool]) -> NDArray[np.bool_]:
    """bool [documents]: whether another one with a lower number stays that is nearly the same."""
    found = np.zeros(len(near), bool)
    for first in range(0, len(near), _STRETCH):
        some = near[first : first + _STRETCH]
        own = np.arange(first, first + len(some))[:, None]
        close = some["cosine"] >= CLOSE
        earlier = close & (some["document"] != NOBODY) & (some["document"] < own)
        for row, place in zip(*np.nonzero(earlier), strict=True):
            document, other = first + int(row), int(some["document"][row, place])
            if not found[document] and not found[other]:
                found[document] = alike(document, other)
    return found


def _alike(store: TokenStore) -> Callable[[int, int], bool]:
    def runs(document: int) -> set[bytes]:
        starts, lengths = store.spans(np.array([document]))
        ids = store.gather(starts, np.minimum(lengths - 1, COMPARED))
        if len(ids) < 3:
            return {ids.tobytes()}
        return {run.tobytes() for run in np.lib.stride_tricks.sliding_window_view(ids, 3)}

    def alike(one: int, other: int) -> bool:
        a, b = runs(one), runs(other)
        return len(a & b) > ALIKE * len(a | b)

    return alike


def _facts(store: TokenStore, left_out: Ints) -> dict[str, int]:
    tokens = sum(
        int(store.spans(left_out[first : first + _STRETCH])[1].sum())
        for first in range(0, len(left_out), _STRETCH)
    )
    return {"documents": len(left_out), "tokens": tokens}
