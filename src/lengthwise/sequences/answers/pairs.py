"""A file of pairs, read whole; what is wrong with one is said with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from os import PathLike
from pathlib import Path
from typing import Any

from lengthwise.documents.json_lines import json_lines
from lengthwise.errors import DocumentError
from lengthwise.sequences.answers.base import Pair
from lengthwise.sequences.errors import SequenceError


def read_pairs(
    path: str | PathLike[str], fields: Seq[str], named: Mapping[str, str] | None = None,
    optional: Seq[str] = (),
) -> list[Pair]:  # fmt: skip
    """The pairs of a file.

    Args:
        path: JSON lines, an object each.
        fields: texts that a pair has, as the method names them.
        named: what the file calls them, where that is something else.
        optional: those of the fields that a pair may lack, or have empty.

    Returns:
        At least one pair.

    Raises:
        SequenceError: for a file that is missing, empty or holds something else, with the line.
    """
    keys = {field: (named or {}).get(field, field) for field in fields}
    try:
        records = json_lines(Path(path))
    except DocumentError as error:
        raise SequenceError(f"{error}; each line has {_said(keys)}") from error
    found = [_pair(f"{path}, line {number}", record, keys, optional) for number, record in records]
    if not found:
        raise SequenceError(f"{path}: holds no pairs; give JSON lines with {_said(keys)}")
    return found


def _pair(
    place: str, record: Mapping[str, Any], keys: Mapping[str, str], optional: Seq[str]
) -> Pair:
    wanted = {n: key for n, key in keys.items() if n not in optional or record.get(key)}
    lacks = [key for key in wanted.values() if key not in record]
    if lacks:
        has = ", ".join(map(str, record)) or "nothing"
        raise SequenceError(
            f"{place}: has no field {lacks[0]!r}, but {has}; --field NAME=FIELD says what the file "
            "calls one"
        )
    empty = [k for k in wanted.values() if not isinstance(record[k], str) or not record[k].strip()]
    if empty:
        raise SequenceError(f"{place}: {empty[0]!r} is no text that says something")
    return {name: record[key] for name, key in wanted.items()}


def _said(keys: Mapping[str, str]) -> str:
    return ", ".join(keys.values())


__all__ = ["read_pairs"]
