"""Rows of a data set by name, as `datasets` streams them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lengthwise._utils.hub import absent
from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import hint
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.source_file import SourceFile
from lengthwise.sequences.tables import Fields, Found, size_of


def require(location: str) -> None:
    """Raises SequenceError where there is no data set of that name, before anything is waited for.

    location: `NAME[,CONFIG][@SPLIT]`.
    """
    datasets = _library(location)
    name = location.partition("@")[0].partition(",")[0]
    kept = Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___")
    if Path(name).exists() or kept.exists():
        return
    if why := absent(name, "dataset", fetched=False):
        raise SequenceError(why)


def rows(file: SourceFile, fields: Fields, skip: int) -> Found:
    """The rows after the first `skip`; raises SequenceError where its loader stops."""
    datasets = _library(file.name)
    name, _, split = file.location.partition("@")
    name, _, config = name.partition(",")
    try:
        found = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
    except Exception as error:  # its loaders raise whatever went wrong in them
        raise SequenceError(f"datasets cannot open {name!r}: {first_line(error)}") from error
    for number, row in enumerate(streamed(found.skip(skip) if skip else found, name), skip):
        if number == skip and fields.text not in row:
            raise SequenceError(f"{name} has no field {fields.text!r}{hint(fields.text, row)}")
        text = row.get(fields.text)
        repository = row.get(fields.repository)
        yield number, size_of(text), text, None if repository is None else str(repository)


def streamed(rows: Iterable[dict[Any, Any]], name: str) -> Iterator[dict[Any, Any]]:
    """The rows, with what their loader raises in the midst of them as one line."""
    try:
        yield from rows
    except Exception as error:  # a broken connection, a damaged file: as its loader says it
        raise SequenceError(
            f"datasets stopped in the midst of {name!r} ({first_line(error)}); run the same "
            "command again to go on"
        ) from error


def _library(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise SequenceError(f"reading {name} needs datasets: pip install datasets") from error
    return datasets
