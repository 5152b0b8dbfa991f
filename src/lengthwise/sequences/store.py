"""A finished data set: what its manifest says, and rows by number.

Layout: `manifest.json`; `tokenizer.json`; `part-00000.parquet` and on, or the same in one folder a
bucket, `bucket-11/part-00000.parquet`; `tokens/`, the token store it was built from, which may be
deleted or shared with other data sets. A row is `input_ids` (list<int32>), `lengths` (list<int32>,
of the pieces that attention stays within; they sum to the row's length) and, where a method leaves
tokens out of the loss, `loss_mask` (list<uint8>).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import checksum, read_json

FORMAT = 1
MANIFEST = "manifest.json"
_HELD_GROUPS = 64
_HELD_FILES = 128


@dataclass(frozen=True)
class Row:
    """input_ids: int32 [tokens]. lengths: int32 [pieces]. loss_mask: uint8 [tokens] or None, where
    every token is to be predicted."""

    input_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    loss_mask: NDArray[np.uint8] | None = None


class SequenceSet:
    """The data set in `folder`. Rows have numbers from 0 in each bucket; bucket 0 is the only one
    of a method that has none, otherwise bucket k has rows of 2^k + 1 tokens.

    Raises SequenceError where there is no finished data set, or one of a later format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / MANIFEST).is_file():
            unfinished = (self.folder / "build.json").exists()
            why = "is unfinished: run its build again" if unfinished else "is no data set"
            raise SequenceError(f"{self.folder} {why} (there is no {MANIFEST})")
        self.manifest: dict[str, Any] = read_json(self.folder / MANIFEST)
        if not isinstance(self.manifest, dict) or {"format", "shards"} - self.manifest.keys():
            raise SequenceError(
                f"{self.folder} is no data set: its {MANIFEST} is of something else"
            )
        if self.manifest["format"] > FORMAT:
            raise SequenceError(
                f"{self.folder} has format {self.manifest['format']}; this version reads {FORMAT}"
            )
        self._shards: dict[int, list[dict[str, Any]]] = {}
        for shard in self.manifest["shards"]:
            self._shards.setdefault(shard.get("bucket", 0), []).append(shard)
        self._ends = {
            bucket: list(accumulate(shard["rows"] for shard in shards))
            for bucket, shards in self._shards.items()
        }
        self._groups: OrderedDict[tuple[str, int], list[pa.ListArray]] = OrderedDict()
        self._files: OrderedDict[str, tuple[pq.ParquetFile, NDArray[np.int64]]] = OrderedDict()

    @property
    def buckets(self) -> dict[int, int]:
        """Rows of each bucket that has any."""
        return {bucket: ends[-1] for bucket, ends in self._ends.items()}

    def row(self, number: int, bucket: int = 0) -> Row:
        """Row `number` of a bucket. Near rows are cheap after one another: a row group is decoded
        at a time, and the last few are kept.

        Raises SequenceError for a row that does not exist and a damaged file.
        """
        ends = self._ends.get(bucket, [0])
        if not 0 <= number < ends[-1]:
            rows = ", ".join(f"{each}: {count:,}" for each, count in sorted(self.buckets.items()))
            raise SequenceError(
                f"there is no row {number} in bucket {bucket}; buckets and their rows: {rows}"
            )
        which = int(np.searchsorted(ends, number, side="right"))
        inside = number - (ends[which - 1] if which else 0)
        file = self._shards[bucket][which]["file"]
        _, group_ends = self._open(file)
        group = int(np.searchsorted(group_ends, inside, side="right"))
        inside -= int(group_ends[group - 1]) if group else 0
        return Row(*(_values(column, inside) for column in self._group(file, group)))

    def verify(self) -> None:
        """Raises SequenceError naming the first file that is not as it was written."""
        for shard in self.manifest["shards"]:
            path = self.folder / shard["file"]
            if not path.is_file() or checksum(path) != shard["sha256"]:
                raise SequenceError(f"{path} is missing or damaged: build the data set again")

    def _open(self, name: str) -> tuple[pq.ParquetFile, NDArray[np.int64]]:
        if name not in self._files:
            try:
                file = pq.ParquetFile(self.folder / name)
            except (pa.ArrowException, OSError) as error:
                raise SequenceError(f"{self.folder / name} cannot be read: {error}") from error
            meta = file.metadata
            counts = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
            self._files[name] = file, np.cumsum(counts)
            if len(self._files) > _HELD_FILES:
                self._files.popitem(last=False)[1][0].close()
        self._files.move_to_end(name)
        return self._files[name]

    def _group(self, name: str, group: int) -> list[pa.ListArray]:
        key = name, group
        if key not in self._groups:
            table = self._open(name)[0].read_row_group(group)
            self._groups[key] = [column.combine_chunks() for column in table.columns]
            if len(self._groups) > _HELD_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


def _values(column: pa.ListArray, row: int) -> Any:
    return column[row].values.to_numpy(zero_copy_only=False)
