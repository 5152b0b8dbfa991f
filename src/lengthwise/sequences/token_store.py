"""Reading a token store: which tokens a document has, and any stretches of tokens at once.

The files are flat arrays that can be memory-mapped. Stretches are read with plain reads all the
same: pages of a mapping that were touched count as this process's memory, and a shuffled corpus
touches all of them.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.counter_rng import Ints
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import read_json

PROMPTS = "prompts.bin"
"""Beside the tokens of answers: how many first tokens of each document are only read."""
_INT64 = np.dtype(np.int64)
_NEAR = 4096
"""Bytes between two stretches below which one read for both is faster than two."""


class TokenStore:
    """The documents in `folder`, by number from 0.

    in_memory: bytes up to which the index of all documents is kept in memory; a larger one is read
        piece by piece.

    Raises SequenceError where the folder holds no finished store.
    """

    def __init__(self, folder: Path, in_memory: int = 1 << 28) -> None:
        if not (folder / "store.json").is_file():
            raise SequenceError(f"{folder} is no finished token store: run the build again")
        self.folder, self._in_memory = folder, in_memory
        self.facts = read_json(folder / "store.json")
        self.documents: int = self.facts["documents"]
        self.tokens: int = self.facts["tokens"]
        self._dtype = np.dtype(self.facts["dtype"])
        size = (folder / "tokens.bin").stat().st_size
        if size != self.tokens * self._dtype.itemsize:
            raise SequenceError(f"{folder} is damaged: tokens.bin has {size:,} bytes; delete it")
        self._file = (folder / "tokens.bin").open("rb", buffering=0)

    def spans(self, documents: Ints) -> tuple[Ints, Ints]:
        """Where the tokens of each document start, and how many they are."""
        ends = self._index("ends.bin", documents)
        before = documents > 0
        starts = np.zeros_like(ends)
        starts[before] = self._index("ends.bin", documents[before] - 1)
        return starts, ends - starts

    def prompts(self, documents: Ints) -> Ints | None:
        """How many first tokens of each document are not predicted; None where all are."""
        if not (self.folder / PROMPTS).is_file():
            return None
        return self._index(PROMPTS, documents)

    def repositories(self, documents: Ints) -> Ints:
        """The number of each document's repository."""
        return self._index("repository.bin", documents, np.dtype(np.int32)).astype(np.int64)

    @cached_property
    def repository_names(self) -> list[str]:
        """The names of the repositories, by number."""
        with (self.folder / "repositories.txt").open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def names(self, documents: Ints) -> list[str]:
        """What each document is called."""
        ends = self._index("name_ends.bin", documents)
        starts = np.zeros_like(ends)
        before = documents > 0
        starts[before] = self._index("name_ends.bin", documents[before] - 1)
        found = []
        with (self.folder / "names.bin").open("rb", buffering=0) as file:
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                file.seek(start)
                found.append(file.read(end - start).decode())
        return found

    def mapped(self) -> NDArray[np.integer]:
        """All tokens as one read-only array over the file."""
        return np.memmap(self.folder / "tokens.bin", self._dtype, "r")

    def gather(self, starts: Ints, lengths: Ints) -> NDArray[np.int32]:
        """The tokens of all stretches, one stretch after another, in the order given."""
        if not len(starts):
            return np.empty(0, np.int32)
        order = np.argsort(starts, kind="stable")
        sorted_starts = starts[order]
        ends = np.maximum.accumulate(sorted_starts + lengths[order])
        new_run = np.ones(len(order), bool)
        new_run[1:] = sorted_starts[1:] > ends[:-1] + _NEAR // self._dtype.itemsize
        firsts = np.flatnonzero(new_run)
        run_starts = sorted_starts[firsts]
        run_ends = ends[np.append(firsts[1:], len(order)) - 1]
        held = self._read(run_starts, run_ends)
        run_offsets = np.cumsum(run_ends - run_starts) - (run_ends - run_starts)
        run = np.cumsum(new_run) - 1
        places = np.empty_like(starts)
        places[order] = sorted_starts - run_starts[run] + run_offsets[run]
        return held[ranges(places, lengths)].astype(np.int32, copy=False)

    def _read(self, starts: Ints, ends: Ints) -> NDArray[np.integer]:
        width = self._dtype.itemsize
        held = np.empty(int((ends - starts).sum()), self._dtype)
        view, place = held.view(np.uint8), 0
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._file.seek(start * width)
            stop = place + (end - start) * width
            while place < stop:
                got = self._file.readinto(view[place:stop])  # type: ignore[arg-type]
                if not got:
                    raise SequenceError(f"{self.folder} is damaged: tokens.bin ends too early")
                place += got
        return held

    def _index(self, name: str, numbers: Ints, dtype: np.dtype[Any] = _INT64) -> Ints:
        path = self.folder / name
        if self.documents * dtype.itemsize <= self._in_memory:
            if name not in self._loaded:
                self._loaded[name] = np.fromfile(path, dtype)
            return self._loaded[name][numbers]
        found = np.empty(len(numbers), dtype)
        for first in range(0, len(numbers), 1 << 12):
            # A mapping of its own for each few: closing it gives the touched pages back.
            mapping = np.memmap(path, dtype, "r")
            found[first : first + (1 << 12)] = mapping[numbers[first : first + (1 << 12)]]
            del mapping
        return found

    @cached_property
    def _loaded(self) -> dict[str, Ints]:
        return {}


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """starts[0], starts[0] + 1, ... (lengths[0] of them), then the same from starts[1], ..."""
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(total)
