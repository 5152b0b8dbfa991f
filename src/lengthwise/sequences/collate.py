"""Rows into one batch without padding, for a transformers Trainer or a loop of one's own.

Rows stand one after another in a batch of one. Each piece of a row counts its positions from 0, and
its first token is the target of nothing: no attention and no loss crosses a border. The names are
those that transformers' `DataCollatorWithFlattening` gives and its models take; `cu_seq_lens_q` is
what flash-attention's varlen functions call `cu_seqlens_q`. Models with another attention find the
borders in the positions, but only where they keep no cache. Hence `use_cache` in the batch: without
it a loop of one's own would let attention cross the borders, and nothing would say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.store import Row

IGNORED = -100
"""Label of a token that is not to be predicted."""


@dataclass(frozen=True)
class PackedCollator:
    """Makes a batch of rows, given as `Row` or as dicts of the columns of the Parquet files.

    flash_attention: whether to give the borders for flash-attention too.
    """

    flash_attention: bool = True

    def __call__(self, rows: Sequence[Row | Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of one, as transformers takes it.

        - `input_ids`, `labels`, `position_ids`: int64 `[1, tokens of all rows]`. labels[i] is token
          i or IGNORED: the model shifts them itself.
        - `cu_seq_lens_q` and `_k`: int32 `[pieces + 1]`, where each piece begins.
        - `max_length_q` and `_k`: tokens of the longest piece.
        - `use_cache`: False.

        Raises SequenceError where rows come without their pieces.
        """
        found = [_columns(row) for row in rows]
        if not found:
            raise SequenceError("a batch of no rows cannot be made: give one at least")
        ids = np.concatenate([ids for ids, _, _ in found])
        pieces = np.concatenate([lengths for _, lengths, _ in found])
        mask = np.concatenate([mask for _, _, mask in found])
        starts = np.cumsum(pieces) - pieces
        mask[starts] = False
        labels = np.where(mask, ids, IGNORED)
        positions = np.arange(len(ids)) - np.repeat(starts, pieces)
        batch: dict[str, Any] = {
            name: torch.from_numpy(np.ascontiguousarray(values, np.int64))[None]
            for name, values in
            (("input_ids", ids), ("labels", labels), ("position_ids", positions))
        }  # fmt: skip
        batch["use_cache"] = False
        if self.flash_attention:
            borders = torch.from_numpy(np.append(starts, len(ids)).astype(np.int32))
            for side in "qk":
                batch[f"cu_seq_lens_{side}"] = borders
                batch[f"max_length_{side}"] = int(pieces.max())
        return batch


def _columns(row: Row | Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """input_ids, lengths and what is to be predicted, of one row."""
    if isinstance(row, Row):
        ids, lengths, mask = row.input_ids, row.lengths, row.loss_mask
    else:
        if "input_ids" not in row or "lengths" not in row:
            raise SequenceError(
                f"a row came with {', '.join(row) or 'nothing'}, and input_ids and lengths are "
                "needed: with transformers' Trainer set remove_unused_columns=False"
            )
        ids, lengths, mask = np.asarray(row["input_ids"]), row["lengths"], row.get("loss_mask")
    pieces = np.asarray(lengths, np.int64)
    if pieces.sum() != len(ids):
        raise SequenceError(
            f"a row of {len(ids):,} tokens says that its pieces have {int(pieces.sum()):,}: it was "
            "cut or padded on its way; give it as it was read"
        )
    return ids, pieces, np.ones(len(ids), bool) if mask is None else np.array(mask, bool)
