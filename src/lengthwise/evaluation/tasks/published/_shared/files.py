"""Rows of published data files: from a folder of the user's, or from the hub.

Read are JSON Lines, JSON (a list, an object of rows by id, or one of which one value is the list of
rows), CSV, members of a zip archive, Parquet; text of each kind also packed by gzip.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from lengthwise._utils.messages import first_line
from lengthwise.errors import LengthwiseError

Row = Mapping[str, Any]
# Published folders hold their files at the top or some folders down.
_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows of a task are published.

    files: names that the data file may have, the usual one first; some with their folder. columns:
    that rows must have.
    hub: name of the data set; "" where it is not on the hub. path: the file in its repository,
    behind "::" a member of an archive; "" where `datasets` loads it. config, split: for `datasets`.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...]
    hub: str = ""
    path: str = ""
    config: str = ""
    split: str = "test"


def local_file(source: Source, data: str) -> Path | None:
    """The file of a task in what the user gave; None where it is not there.

    Args:
        source: of the task.
        data: a folder in the published layout, or one file.
    """
    given = Path(data).expanduser()
    if given.is_file():
        # A file whose name is another task's is not this one's.
        return given if any(given.absolute().match(name) for name in source.files) else None
    patterns = ["*/" * depth + name for name in source.files for depth in range(_DEPTH)]
    found = (each for pattern in patterns for each in sorted(given.glob(pattern)))
    return next((each for each in found if each.is_file()), None)


def rows_of(task: str, source: Source, data: str) -> Seq[Row]:
    """All rows of a task.

    Args:
        task: as an error names it, such as "longbench/trec".
        source: where they are published.
        data: folder or file of the user's; "" loads from the hub.

    Raises:
        LengthwiseError: for data that is absent, gated or damaged, or has other columns.
    """
    if not data and not source.hub:
        raise LengthwiseError(f"{task} needs {lacking(task, source, data)}")
    if data:
        path = local_file(source, data)
        if path is None:
            raise LengthwiseError(f"{task} needs {lacking(task, source, data)}")
        where = str(path)
        found = _read(task, where)
    else:
        where, found = source.hub, _from_hub(task, source)
    if not found:
        raise LengthwiseError(f"{task}: {where} has no rows")
    for number, row in enumerate(found, 1):
        missing = [each for each in source.columns if each not in row]
        if missing:
            raise LengthwiseError(
                f"{task}: row {number} of {where} has no column {missing[0]!r}; wanted are "
                f"{', '.join(source.columns)}; found are {', '.join(map(str, row)) or 'none'}"
            )
    return found


def lacking(task: str, source: Source, data: str) -> str:
    """What a task needs that is not there, and how to give it: words that follow "needs".

    Args:
        task: such as "longbench/trec".
        source: where it is published.
        data: what the user gave.
    """
    at = f", which {data} is not or does not hold" if data else ""
    name = task.partition("/")[0]
    return f"its published file{at}: give {name}(data=FOLDER) with {' or '.join(source.files)}"


def _read(task: str, path: str, member: str = "") -> Seq[Row]:
    """Rows of a file, or of a member of an archive."""
    try:
        return _kept(path, Path(path).stat().st_mtime_ns, member)
    except LengthwiseError as error:
        raise LengthwiseError(f"{task}: {error}") from error


@lru_cache(maxsize=2)
def _kept(path: str, changed: int, member: str) -> tuple[Row, ...]:
    """Rows of a file as it was changed last, which other tasks and lengths do not read again."""
    try:
        if path.endswith(".parquet"):
            import pyarrow.parquet

            return tuple(pyarrow.parquet.read_table(path).to_pylist())
        if member:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(member).decode("utf-8-sig")
        elif path.endswith(".gz"):
            text = gzip.decompress(Path(path).read_bytes()).decode("utf-8-sig")
        else:
            text = Path(path).read_text("utf-8-sig")
        found = _parsed(text, PurePosixPath((member or path).removesuffix(".gz")).suffix)
    except (OSError, EOFError, KeyError, ValueError, RecursionError, csv.Error, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise LengthwiseError(f"{path} cannot be read ({first_line(error)})") from error
    other = next((n for n, each in enumerate(found, 1) if not isinstance(each, dict)), 0)
    if other:
        kind = type(found[other - 1]).__name__
        raise LengthwiseError(f"row {other} of {path} is no row with columns but a {kind}")
    return tuple(found)


def _parsed(text: str, suffix: str) -> list[Any]:
    if suffix == ".csv":
        # Longer than the reader's own limit are whole documents in a cell.
        csv.field_size_limit(sys.maxsize)
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    if suffix == ".jsonl":
        # Not `splitlines`: documents hold line marks that are none in JSON.
        lines = enumerate(text.split("\n"), 1)
        return [_line(number, line) for number, line in lines if line.strip()]
    found = json.loads(text)
    if isinstance(found, dict):
        lists = [each for each in found.values() if isinstance(each, list)]
        return lists[0] if len(lists) == 1 else list(found.values())
    return found if isinstance(found, list) else [found]


def _line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _from_hub(task: str, source: Source) -> Seq[Row]:
    """Rows that the hub has, kept in its cache on this machine."""
    try:
        if not source.path:
            return _loaded(source)
        from huggingface_hub import hf_hub_download

        path, _, member = source.path.partition("::")
        kept = hf_hub_download(source.hub, path, repo_type="dataset")
    except ImportError as error:
        raise LengthwiseError(
            f"{task}: loading {source.hub} needs {error.name}: pip install {error.name}"
        ) from error
    except Exception as error:  # no network, a gate, a name that is gone: as the client says it
        raise LengthwiseError(
            f"{task}: the data set {source.hub} cannot be loaded ({first_line(error)}); log in "
            f"where it is gated, or have {lacking(task, source, '')}"
        ) from error
    return _read(task, kept, member)


@lru_cache(maxsize=1)
def _loaded(source: Source) -> tuple[Row, ...]:
    """Rows that `datasets` loads, kept for the next length."""
    import datasets

    found = datasets.load_dataset(source.hub, source.config or None, split=source.split)
    return tuple(dict(each) for each in found)


__all__ = ["Row", "Source", "lacking", "local_file", "rows_of"]
