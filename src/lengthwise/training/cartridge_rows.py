"""Rows that a cartridge is trained on, and files of them.

A row is a question and its answer, without the corpus, and what the teacher, who saw a chunk of
the corpus, thinks of each token of the answer: its likeliest tokens and their log-probabilities.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise.sequences.files import written_aside
from lengthwise.training.config import TrainingError

FORMAT = "lengthwise self-study"


@dataclass(frozen=True)
class Row:
    """One conversation as the student reads it.

    ids: of question and answer. start: of the first token that predicts; all from there on do.
    top_ids: int64 `[n, k]`, the teacher's likeliest next tokens at each of the n predicting tokens.
    top_log_probs: float32 `[n, k]`, over the whole vocabulary: what is left out is left out.
    """

    ids: tuple[int, ...]
    start: int
    top_ids: Tensor
    top_log_probs: Tensor

    def __post_init__(self) -> None:
        count, shape = len(self.ids) - self.start, tuple(self.top_ids.shape)
        if not 0 <= self.start < len(self.ids) or len(shape) != 2 or shape[0] != count:
            raise ValueError(f"a row of {len(self.ids)} tokens from {self.start} on has {shape}")
        if shape != tuple(self.top_log_probs.shape):
            raise ValueError(f"{shape} tokens have {tuple(self.top_log_probs.shape)} probabilities")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def predicted(self) -> int:
        """Tokens that the teacher's opinion is known of."""
        return len(self.ids) - self.start

    def cut(self, tokens: int) -> Row | None:
        """Its first tokens; None where none of them predicts.

        Args:
            tokens: how many, at most.
        """
        if len(self.ids) <= tokens:
            return self
        count = tokens - self.start
        if count < 1:
            return None
        return Row(self.ids[:tokens], self.start, self.top_ids[:count], self.top_log_probs[:count])


def next_token_rows(ids: Seq[int], length: int) -> list[Row]:
    """Rows of plain next-token training on a text: each next token is certain.

    Args:
        ids: of the text.
        length: tokens of a row.
    """
    found = []
    for start in range(0, len(ids) - 1, length):
        part = ids[start : start + length + 1]
        targets = torch.tensor(part[1:])[:, None]
        if len(part) > 1:
            found.append(Row(tuple(part[:-1]), 0, targets, torch.zeros(targets.shape)))
    return found


def save_rows(path: Path, rows: Seq[Row]) -> None:
    """Stores rows in one safetensors file, written aside and renamed.

    Args:
        path: of the file.
        rows: at least one, all with equally many of the teacher's tokens.

    Raises:
        LengthwiseError: where the disk refuses.
    """
    tensors = {
        "ids": torch.tensor([token for row in rows for token in row.ids], dtype=torch.int32),
        "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int32),
        "starts": torch.tensor([row.start for row in rows], dtype=torch.int32),
        "top_ids": torch.cat([row.top_ids for row in rows]).int(),
        "top_log_probs": torch.cat([row.top_log_probs for row in rows]).float(),
    }
    with written_aside(path) as aside:
        save_file(tensors, aside, metadata={"format": FORMAT})


def load_rows(path: Path, vocab_size: int) -> list[Row]:
    """The rows that `save_rows` stored.

    Args:
        path: of the file.
        vocab_size: of the model that they are for.

    Raises:
        TrainingError: for a file that is missing, damaged or of something else.
    """
    name = os.fspath(path)
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise ValueError("it is of something else")
            held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        rows = _rows_of(held)
        for row in rows:
            for ids in (torch.tensor(row.ids), row.top_ids):
                if not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
                    raise ValueError("token ids are outside the vocabulary")
            if not bool((row.top_log_probs <= 1e-3).all()):
                raise ValueError("log-probabilities are above 0, or none")
        return rows
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"{name} is damaged ({first_line(error)}): delete it, and the same command makes it "
            "again"
        ) from None


def _rows_of(held: dict[str, Tensor]) -> list[Row]:
    lengths, starts = held["lengths"].tolist(), held["starts"].tolist()
    counts = [length - start for length, start in zip(lengths, starts, strict=True)]
    if min(counts, default=0) < 1:
        raise ValueError("a row predicts nothing")
    ids = held["ids"].split(lengths)
    tops = held["top_ids"].long().split(counts), held["top_log_probs"].float().split(counts)
    return [
        Row(tuple(row.tolist()), start, top, log_probs)
        for row, start, top, log_probs in zip(ids, starts, *tops, strict=True)
    ]


def save_lines(path: Path, records: Seq[dict[str, object]]) -> None:
    """Stores records as JSON lines, written aside and renamed.

    Args:
        path: of the file.
        records: one a line.

    Raises:
        LengthwiseError: where the disk refuses.
    """
    with written_aside(path) as aside:
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records)
        aside.write_text(text, encoding="utf-8")


__all__ = ["Row", "save_lines", "load_rows", "next_token_rows", "save_rows"]
