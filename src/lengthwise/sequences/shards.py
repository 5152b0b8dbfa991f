"""Rows into Parquet files: one a part, or one a part and bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lengthwise.sequences.chance import Ints, key, permutation
from lengthwise.sequences.files import checksum, written_aside
from lengthwise.sequences.rows import Built, Rows
from lengthwise.sequences.token_store import TokenStore

GROUP_TOKENS = 1 << 18
"""Tokens of a row group: what a reader has to decode to get at one row."""


def schema(loss_mask: bool) -> pa.Schema:
    """`input_ids`; `lengths` of the pieces that attention stays within, whose sum is the row's
    length; where asked for, `loss_mask`, 1 for each token that is to be predicted."""
    fields = [("input_ids", pa.list_(pa.int32())), ("lengths", pa.list_(pa.int32()))]
    if loss_mask:
        fields.append(("loss_mask", pa.list_(pa.uint8())))
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
        _write(folder / name, rows, chosen, store)
        facts: dict[str, Any] = {"file": name, "rows": len(rows)}
        facts |= {"tokens": int(rows.lengths.sum()), "sha256": checksum(folder / name)}
        shards.append(facts | ({"bucket": bucket} if bucket else {}))
    return shards


def _write(path: Path, rows: Rows, chosen: Ints, store: TokenStore) -> None:
    kind = schema(rows.counted is not None)
    with (
        written_aside(path) as aside,
        pq.ParquetWriter(
            aside, kind, compression="zstd", compression_level=1, use_dictionary=False,
            write_statistics=False,
        ) as file,
    ):  # fmt: skip
        for group in _groups(rows.sizes()[chosen]):
            taken = rows.take(chosen[group])
            file.write_table(_table(taken, store, kind), row_group_size=len(taken))


def _groups(sizes: Ints) -> Iterator[slice]:
    ends = np.cumsum(sizes)
    first, before = 0, 0
    while first < len(sizes):
        stop = max(first + 1, int(np.searchsorted(ends, before + GROUP_TOKENS, side="right")))
        yield slice(first, stop)
        first, before = stop, int(ends[stop - 1])


def _table(rows: Rows, store: TokenStore, kind: pa.Schema) -> pa.Table:
    ends = np.append(0, np.cumsum(rows.sizes()))
    pieces, piece_ends = rows.pieces()
    columns = [_lists(ends, rows.tokens(store)), _lists(piece_ends, pieces.astype(np.int32))]
    if rows.counted is not None:
        columns.append(_lists(ends, np.repeat(rows.counted, rows.lengths).astype(np.uint8)))
    return pa.Table.from_arrays(columns, schema=kind)


def _lists(ends: Ints, values: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), pa.array(values))
