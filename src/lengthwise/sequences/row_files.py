"""Rows out of one Parquet file: at their place among its bytes, or by decoding a group of rows.

What is written here lies plain: no compression, and one page a column and group, so that the
values of a group are the last bytes of its page, in a row. A row then costs its own bytes, where
decoding costs the whole group. Files that lie otherwise (of an earlier version, or written anew by
another program) are decoded; both ways give the same rows.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lengthwise._utils.counter_rng import Ints
from lengthwise.sequences.errors import SequenceError

HELD_GROUPS = 64
"""Decoded groups that are kept, of all files of a data set together."""
_BITS = {"INT32": 32, "BOOLEAN": 1}

Columns = list[Any]
"""input_ids int32 [tokens], lengths int32 [pieces] and, where there is one, loss_mask uint8
[tokens]."""


class RowFile(Protocol):
    """bytes_read: of rows, decoded or copied, so far. bytes_held: of its index."""

    bytes_read: int
    bytes_held: int

    def row(self, number: int) -> Columns: ...


Groups = OrderedDict[tuple[Path, int], list[pa.ListArray]]
"""Decoded groups of rows, the one asked for last at the end."""


def open_rows(path: Path, facts: dict[str, Any], groups: Groups) -> RowFile:
    """The rows of a file. facts: what the manifest says of it. groups: where decoded ones are kept.

    Raises SequenceError where it cannot be read, or has more or fewer rows than were built.
    """
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows != facts["rows"]:
            raise SequenceError(
                f"{path} has {file.metadata.num_rows:,} rows and was built with {facts['rows']:,}: "
                "it was changed; put it back, or build the data set again"
            )
        # Written anew it may have more pages, which its metadata does not tell.
        if facts.get("plain") and facts.get("bytes") == path.stat().st_size:
            places = {name: value_places(file.metadata, name) for name in file.schema_arrow.names}
            if places["input_ids"] and None not in places.values():
                return Placed(path, file, places, facts.get("row_tokens"))
    except (pa.ArrowException, OSError) as error:
        raise SequenceError(f"{path} cannot be read: {error}") from error
    return Decoded(path, file, groups)


class Placed:
    """Rows copied from their places in the mapped file.

    row_tokens: the length of every row, each of one piece; None where they differ, and then the
    column of lengths is held.
    """

    def __init__(
        self, path: Path, file: pq.ParquetFile, places: dict[str, Any], row_tokens: int | None
    ) -> None:
        self._bytes = np.memmap(path, np.uint8, "r")
        self._ids, self._mask = places["input_ids"], places.get("loss_mask")
        self._group_ends = _group_ends(file.metadata)
        self._row_tokens, self.bytes_read, self.bytes_held = row_tokens, 0, 0
        if row_tokens is None:
            column = file.read(columns=["lengths"]).column(0).combine_chunks()
            self._lengths: NDArray[np.int32] = column.values.to_numpy()
            self._pieces = column.offsets.to_numpy().astype(np.int64)
            ends = np.append(0, np.cumsum(self._lengths, dtype=np.int64))
            self._starts: Ints = ends[self._pieces]
            self.bytes_read = self._lengths.nbytes
            held = (self._lengths, self._pieces, self._starts)
            self.bytes_held = sum(each.nbytes for each in held)
        file.close()

    def row(self, number: int) -> Columns:
        group = int(np.searchsorted(self._group_ends, number, side="right"))
        first = int(self._group_ends[group - 1]) if group else 0
        before = self._start(first)
        start, stop = self._start(number) - before, self._start(number + 1) - before
        place = self._ids[group] + 4 * start
        ids = self._copied(place, place + 4 * (stop - start)).view(np.int32)
        found: Columns = [ids, self._pieces_of(number, stop - start)]
        if self._mask is not None:
            low, high = start // 8, -(-stop // 8)
            packed = self._copied(self._mask[group] + low, self._mask[group] + high)
            bits = np.unpackbits(packed, bitorder="little")
            found.append(bits[start - 8 * low : stop - 8 * low])
        return found

    def _start(self, row: int) -> int:
        """Tokens of the file before a row."""
        if self._row_tokens is not None:
            return row * self._row_tokens
        return int(self._starts[row])

    def _pieces_of(self, row: int, tokens: int) -> NDArray[np.int32]:
        if self._row_tokens is not None:
            return np.array([tokens], np.int32)
        return self._lengths[self._pieces[row] : self._pieces[row + 1]].copy()

    def _copied(self, first: int, stop: int) -> NDArray[np.uint8]:
        self.bytes_read += stop - first
        return np.array(self._bytes[first:stop])


class Decoded:
    """Rows of groups that are decoded whole, of which the last few are kept."""

    bytes_held = 0

    def __init__(self, path: Path, file: pq.ParquetFile, groups: Groups) -> None:
        self._path, self._file, self._groups, self.bytes_read = path, file, groups, 0
        self._ends = _group_ends(file.metadata)

    def row(self, number: int) -> Columns:
        group = int(np.searchsorted(self._ends, number, side="right"))
        inside = number - (int(self._ends[group - 1]) if group else 0)
        return [_values(column, inside) for column in self._group(group)]

    def _group(self, group: int) -> list[pa.ListArray]:
        key = self._path, group
        if key not in self._groups:
            try:
                table = self._file.read_row_group(group)
            except (pa.ArrowException, OSError) as error:
                raise SequenceError(f"{self._path} is damaged: {error}") from error
            self.bytes_read += table.nbytes
            self._groups[key] = [column.combine_chunks() for column in table.columns]
            while len(self._groups) > HELD_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


def value_places(meta: pq.FileMetaData, name: str) -> list[int] | None:
    """Where in the file the values of a column of lists begin, for each group of rows.

    None where they do not lie plain. That a group has one page its metadata cannot tell: the one
    who wrote the file has looked.
    """
    found = []
    for number in range(meta.num_row_groups):
        group = meta.row_group(number)
        columns = [group.column(each) for each in range(group.num_columns)]
        chunks = [c for c in columns if c.path_in_schema.partition(".")[0] == name]
        chunk = chunks[0]
        plain = (
            len(chunks) == 1 and chunk.compression == "UNCOMPRESSED"
            and not chunk.has_dictionary_page and set(chunk.encodings) <= {"PLAIN", "RLE"}
            and chunk.physical_type in _BITS
        )  # fmt: skip
        if not plain:
            return None
        size = -(-chunk.num_values * _BITS[chunk.physical_type] // 8)
        found.append(chunk.data_page_offset + chunk.total_compressed_size - size)
    return found


def _group_ends(meta: pq.FileMetaData) -> Ints:
    counts = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
    return np.cumsum(counts)


def _values(column: pa.ListArray, row: int) -> Any:
    found = column[row].values.to_numpy(zero_copy_only=False)
    return found.astype(np.uint8) if found.dtype == np.bool_ else found
