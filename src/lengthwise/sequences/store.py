"""A finished data set: what its manifest says, and rows by number.

Layout: `part-00000.parquet` and on, or the same in one folder a bucket,
`bucket-11/part-00000.parquet`. What is no rows is out of the way of programs that read folders of
Parquet. `__about__/` holds `manifest.json` and `tokenizer.json`. `__tokens__/` holds the token
store that it was built from, which may be deleted or shared with other data sets. (Format 1 had
both files beside the rows.) A row has these columns:

- `input_ids`: list<int32>.
- `lengths`: list<int32>, of the pieces that attention stays within; they sum to the row's length.
- `loss_mask`: list<bool> (list<uint8> in format 1), where a method leaves tokens out of the loss.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import checksum, read_json
from lengthwise.sequences.row_files import Groups, RowFile, open_rows

FORMAT = 2
ABOUT = "__about__"
TOKENS = "__tokens__"
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
_HELD_FILES = 128
_HELD_BYTES = 64 << 20
"""Of the indexes of open files."""


def manifest_in(folder: Path) -> Path | None:
    """The manifest of a finished data set of either format; None where there is none."""
    places = (folder / ABOUT / MANIFEST, folder / MANIFEST)
    return next((place for place in places if place.is_file()), None)


def tokens_in(folder: Path) -> Path:
    """Where the token store of a data set lies, unless it was built with one elsewhere."""
    old = folder / "tokens"
    return old if old.is_dir() and not (folder / TOKENS).exists() else folder / TOKENS


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
        place = manifest_in(self.folder)
        if place is None:
            unfinished = (self.folder / "build.json").exists()
            why = "is unfinished: run its build again" if unfinished else "is no data set"
            raise SequenceError(f"{self.folder} {why} (there is no {ABOUT}/{MANIFEST})")
        self.tokenizer_file = place.with_name(TOKENIZER)
        self.manifest: dict[str, Any] = read_json(place)
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
        self._files: OrderedDict[str, RowFile] = OrderedDict()
        self._groups: Groups = OrderedDict()
        self._bytes_read = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: a worker of a DataLoader opens its own."""
        return self.__dict__ | {"_files": OrderedDict(), "_groups": OrderedDict()}

    @property
    def buckets(self) -> dict[int, int]:
        """Rows of each bucket that has any."""
        return {bucket: ends[-1] for bucket, ends in self._ends.items()}

    @property
    def rows_by_length(self) -> dict[int, int]:
        """Rows of each length of inputs; all of the longest one where the method has no buckets."""
        if self.manifest["buckets"]:
            return {1 << bucket: rows for bucket, rows in self.buckets.items()}
        return {int(self.manifest["max_length"]): self.buckets[0]}

    def bucket_of(self, length: int) -> int:
        """The bucket whose rows have inputs of this length."""
        return length.bit_length() - 1 if self.manifest["buckets"] else 0

    def row(self, number: int, bucket: int = 0) -> Row:
        """Row `number` of a bucket, wherever it lies: a row costs its own bytes. (In data sets of
        format 1 a group of rows is decoded at a time, and the last few are kept.)

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
        return Row(*self._open(self._shards[bucket][which]).row(inside))

    @property
    def bytes_read(self) -> int:
        """Bytes that reading rows has decoded or copied so far, indexes of rows included."""
        return self._bytes_read + sum(file.bytes_read for file in self._files.values())

    def verify(self) -> None:
        """Raises SequenceError naming the first file that is not as it was written."""
        for shard in self.manifest["shards"]:
            path = self.folder / shard["file"]
            if not path.is_file() or checksum(path) != shard["sha256"]:
                raise SequenceError(f"{path} is missing or damaged: build the data set again")

    def _open(self, shard: dict[str, Any]) -> RowFile:
        name = shard["file"]
        if name not in self._files:
            self._files[name] = open_rows(self.folder / name, shard, self._groups)
            while len(self._files) > 1 and self._too_many():
                self._bytes_read += self._files.popitem(last=False)[1].bytes_read
        self._files.move_to_end(name)
        return self._files[name]

    def _too_many(self) -> bool:
        held = sum(file.bytes_held for file in self._files.values())
        return len(self._files) > _HELD_FILES or held > _HELD_BYTES
