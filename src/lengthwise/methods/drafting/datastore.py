"""REST: what followed the last tokens in a corpus that was indexed once.

He et al., "REST: Retrieval-Based Speculative Decoding", NAACL 2024, arXiv:2311.08252.

The longest end of the text that the corpus has is looked up in a suffix array. What follows at its
places is counted, and the most frequent beginnings make a tree of guesses.

    for n = longest, ..., shortest:  places = where the last n tokens stand; stop at the first hit
    count[x_1 ... x_d] = places followed by x_1 ... x_d,  d = 1 .. draft
    tree = the `nodes` beginnings of highest count (a beginning never counts less than what it
           begins, so every parent is among them)

Where there are more than `matches` places, ours looks at evenly spaced ones. The first ones, which
the original takes, all continue alike. Ours verifies by one walk that matches guesses with the
target's choice. The code's sampling mode draws again for every row and is biased.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from bisect import bisect
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.datastore import (
    HOW_TO_BUILD,
    SEPARATOR,
    Datastore,
    Ints,
    check_tokenizer,
    opened,
)

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class DatastoreDrafting(Method):
    """path: the file. nodes, draft: size and depth of the tree. longest, shortest: of the match.
    matches: places that are looked at."""

    name: ClassVar[str] = "datastore"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "REST: Retrieval-Based Speculative Decoding",
        "He et al.",
        2024,
        arxiv="2311.08252",
        venue="NAACL",
        code="https://github.com/FasterDecoding/REST",
    )
    lossless: ClassVar[bool] = True
    path: str = option("", "file made by `lengthwise datastore build`")
    nodes: int = option(64, "most tokens guessed a step", low=1)
    draft: int = option(10, "most tokens guessed in a row", low=1)
    longest: int = option(16, "longest match sought, in tokens", low=1)
    shortest: int = option(2, "shortest match that is believed, in tokens", low=1)
    matches: int = option(1000, "most places of a match that are counted", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < self.shortest:
            raise RecipeError(
                f"datastore(shortest={self.shortest}, longest={self.longest}): no match is that "
                f"long and that short; give a longest of at least {self.shortest}"
            )

    @classmethod
    def identity(cls, length: int) -> DatastoreDrafting:
        """No match can be longer than the text."""
        return cls(path=_example_file(), shortest=length + 1, longest=length + 1)

    @classmethod
    def example(cls) -> DatastoreDrafting:
        return cls(path=_example_file(), nodes=8, shortest=1)

    def check(self, model: AdaptedModel) -> None:
        """Opens the file and compares its tokenizer, as far as this model tells of its own."""
        check_tokenizer(self.open(), self.path, model)

    def open(self) -> Datastore:
        """The datastore, mapped once a process. Raises RecipeError where it cannot be had."""
        if not self.path:
            raise RecipeError(f"datastore needs a file: datastore(path=FILE); {HOW_TO_BUILD}")
        return opened(self.name, self.path)

    def start_drafter(self, model: AdaptedModel) -> DatastoreDrafter:
        return DatastoreDrafter(self, self.open())


class DatastoreDrafter(Drafter):
    """Adds the most frequent continuations of the longest match. A guess's bucket is that of the
    match's length and of how many of the places above it it shares."""

    name = "datastore"

    def __init__(self, options: DatastoreDrafting, store: Datastore) -> None:
        self.options = options
        self.store = store

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        options = self.options
        match = self.store.longest(tokens[-options.longest :], options.longest, options.shortest)
        if not match:
            return
        depth = min(limit, options.draft)
        rows = self.store.continuations(match, depth, options.matches)
        guesses, parents, counts = frequent(rows, options.nodes)
        names, lengths, seen = [0], [match.length], [len(rows)]
        for token, parent, count in zip(guesses, parents, counts, strict=True):
            # One place more than there are, so that a single one is not taken for certainty.
            share = count / (seen[parent] + 1)
            bucket, prior = _bucket(lengths[parent], share)
            names.append(tree.add(names[parent], token, self.name, bucket, prior))
            lengths.append(lengths[parent] + 1)
            seen.append(count)


def frequent(rows: Ints, nodes: int) -> tuple[list[int], list[int], list[int]]:
    """The `nodes` most frequent beginnings of sorted rows `[places, depth]`, as a trie.

    Returns for each its last token, its parent (0 is the empty beginning, i + 1 the i-th) and its
    count; parents stand first.
    """
    places, depth = rows.shape
    first = np.ones((places, depth), bool)
    first[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], 1)
    # Depth by depth: where runs of equal beginnings start, and so how long they are.
    starts = first.T.ravel().nonzero()[0]
    counts = np.diff(starts, append=places * depth)
    tokens = rows.T.ravel()[starts]
    chosen = _most_frequent(np.where(tokens == SEPARATOR, 0, counts), nodes)
    above = starts.searchsorted(starts[chosen] - places, "right") - 1
    # What stands first in a depth has no parent but the root.
    parents = np.where(starts[chosen] < places, 0, chosen.searchsorted(above) + 1)
    return tokens[chosen].tolist(), parents.tolist(), counts[chosen].tolist()


def _most_frequent(counts: Numbers, most: int) -> Numbers:
    """Places of the highest counts above 0, ascending; of equal ones the first, so that a beginning
    comes before what it begins."""
    order = (-counts).argsort(kind="stable")[:most]
    order.sort()
    kept: Numbers = order[counts[order] > 0]
    return kept


def _bucket(length: int, share: float) -> tuple[int, float]:
    """Bucket and prior of a guess: four lengths of match by five shares."""
    bucket = bisect(LENGTHS, length) * (len(SHARES) + 1) + bisect(SHARES, share)
    return bucket, RELEVANCE * share


LENGTHS = (3, 5, 9)
SHARES = (0.1, 0.25, 0.45, 0.7)
# Of what a corpus promises, this much is believed until this text has shown how far it resembles.
RELEVANCE = 0.7


@lru_cache(maxsize=1)
def _example_file() -> str:
    """A datastore of a few hundred made-up tokens, gone when the process ends."""
    generator = np.random.default_rng(0)
    texts = [generator.integers(3, 64, 80).tolist() * 2 for _ in range(4)]
    folder = tempfile.mkdtemp(prefix="lengthwise-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "example.safetensors"
    Datastore.build(texts, 64).save(path)
    return str(path)
