"""Rows into Parquet files: one a part, or one a part and bucket."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lengthwise._utils.counter_rng import Ints, key, permutation
from lengthwise.sequences.files import checksum, written_aside
from lengthwise.sequences.row_files import value_places
from lengthwise.sequences.rows import Built, Rows
from lengthwise.sequences.token_store import TokenStore

GROUP_TOKENS = 1 << 18
"""Tokens of a row group: what a reader that decodes has to decode to get at one row."""
GROUP_ROWS = 1 << 14
"""Rows of a row group at most: pyarrow ends a page after 20,000."""
_PAGE = 1 << 30
"""Bytes after which a page may end: no group but one of a single endless row has as many."""


def schema(loss_mask: bool) -> pa.Schema:
    """`input_ids`; `lengths` of the pieces that attention stays within, whose sum is the row's
    length; where asked for, `loss_mask`, true for each token that is to be predicted."""
    fields = [("input_ids", pa.list_(pa.int32())), ("lengths", pa.list_(pa.int32()))]
    if loss_mask:
        fields.append(("loss_mask", pa.list_(pa.bool_())))
    return pa.schema(fields)


def write_part(folder: Path, part: int, built: Built, store: TokenStore,
               seed: int | None) -> list[dict[str, Any]]:  # fmt: skip
    """Writes the rows of a part and says of each file what is in it.

    seed: rows come in an order drawn from it; None leaves them as they were built.

    Raises SequenceError where the disk refuses.
    """
    shards = []
    for bucket, rows in built.rows.items():
        if not len(rows):
            continue
        name = f"part-{part:05d}.parquet"
        if bucket:
            name = f"bucket-{bucket:02d}/{name}"
        chosen = np.arange(len(rows))
        if seed is not None:
            chosen = permutation(key(seed, "rows", part, bucket), len(rows))
        plain = _write(folder / name, rows, chosen, store)
        facts: dict[str, Any] = {"file": name, "rows": len(rows)}
        facts |= {"tokens": int(rows.lengths.sum()), "sha256": checksum(folder / name)}
        # By which a file that another program wrote anew is told (`row_files`).
        facts["bytes"] = (folder / name).stat().st_size
        facts |= {"plain": plain} | _same_length(rows) | ({"bucket": bucket} if bucket else {})
        shards.append(facts)
    return shards


def _same_length(rows: Rows) -> dict[str, int]:
    """`row_tokens`, where every row is one piece of the same length."""
    pieces, ends = rows.pieces()
    one = len(pieces) == len(ends) - 1 and bool((pieces == pieces[0]).all())
    return {"row_tokens": int(pieces[0])} if one else {}


def _write(path: Path, rows: Rows, chosen: Ints, store: TokenStore) -> bool:
    """Writes the file; whether its rows can be read at their places (`row_files`)."""
    kind = schema(rows.counted is not None)
    sums: list[list[int]] = []
    with written_aside(path) as aside:
        with pq.ParquetWriter(
            aside, kind, compression="none", use_dictionary=False, write_statistics=False,
            data_page_size=_PAGE,
        ) as file:  # fmt: skip
            for group in _groups(rows.sizes()[chosen]):
                taken = rows.take(chosen[group])
                columns = _columns(taken, store)
                sums.append([zlib.crc32(_stored(values).data) for _, values in columns])
                arrays = [_lists(ends, values) for ends, values in columns]
                table = pa.Table.from_arrays(arrays, schema=kind)
                file.write_table(table, row_group_size=len(taken))
        return _lies_plain(aside, kind, sums)


def _lies_plain(path: Path, kind: pa.Schema, sums: list[list[int]]) -> bool:
    """Whether the bytes at the places of values are those of the values."""
    with pq.ParquetFile(path) as file:
        meta = file.metadata
    places = [value_places(meta, name) for name in kind.names]
    with path.open("rb") as data:
        for column, firsts in enumerate(places):
            for group, first in enumerate(firsts or ()):
                chunk = meta.row_group(group).column(column)
                data.seek(first)
                end = chunk.data_page_offset + chunk.total_compressed_size
                if zlib.crc32(data.read(end - first)) != sums[group][column]:
                    return False
    return None not in places


def _groups(sizes: Ints) -> Iterator[slice]:
    ends = np.cumsum(sizes)
    first, before = 0, 0
    while first < len(sizes):
        stop = max(first + 1, int(np.searchsorted(ends, before + GROUP_TOKENS, side="right")))
        stop = min(stop, first + GROUP_ROWS)
        yield slice(first, stop)
        first, before = stop, int(ends[stop - 1])


def _columns(rows: Rows, store: TokenStore) -> list[tuple[Ints, np.ndarray]]:
    """(ends of lists, values) of every column."""
    ends = np.append(0, np.cumsum(rows.sizes()))
    pieces, piece_ends = rows.pieces()
    columns = [(ends, rows.tokens(store)), (piece_ends, pieces.astype(np.int32))]
    if rows.counted is not None:
        columns.append((ends, np.repeat(rows.counted, rows.lengths)))
    return columns


def _stored(values: np.ndarray) -> np.ndarray:
    """Values as Parquet stores them plain: numbers as they are, truths as bits."""
    return np.packbits(values, bitorder="little") if values.dtype == np.bool_ else values


def _lists(ends: Ints, values: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), pa.array(values))
