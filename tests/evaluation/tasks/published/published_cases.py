"""Rows in the published formats, in words of our own, written to a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence as Seq
from pathlib import Path
from typing import Any

from lengthwise.evaluation.tasks.benchmark import Task, Wanted, tasks_of


def wanted(length: int = 100_000, samples: int = 10, seed: int = 0) -> Wanted:
    """Counts characters as tokens."""
    return Wanted(length, samples, seed, len, "")


def write(folder: Path, name: str, rows: Seq[Mapping[str, Any]]) -> None:
    """A published file of these rows."""
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = json.dumps(rows, ensure_ascii=False)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def task_of(name: str, folder: Path, task: str) -> Task:
    """One task of a benchmark, read from a folder."""
    (found,) = tasks_of(f"{name}(data={folder})/{task}")
    return found
