"""Rows for a law, from CSV or from JSON lines such as training logs.

Columns carry the law's names, or are mapped to them ("N=parameters"). In JSON lines, numbers of a
record that lacks the output (a log's header) hold for the records after it, since a log states a
run's size once. What is derived, carried or left out is told in `Table.notes`.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np

from lengthwise._utils.suggestions import did_you_mean, hint
from lengthwise.scaling.law import Array, Law, ScalingError
from lengthwise.scaling.vocabulary import tokens_per_character

Record = dict[str, object]
# What a CSV file may be separated by; spreadsheets where 1,5 is a number write semicolons.
DELIMITERS = (",", ";", "\t")
# The record of our logs that holds what steps cost: its `error` is no result of the run.
COST = "cost"
# What follows from other columns by definition, tried when a column is missing.
DERIVED: tuple[tuple[str, tuple[str, ...], str, Callable[..., Array]], ...] = (
    ("M", ("D", "N"), "D / N", lambda d, n: d / n),
    ("D", ("M", "N"), "M N", lambda m, n: m * n),
    ("D", ("C", "N"), "C / 6N", lambda c, n: c / (6 * n)),
    ("D", ("H", "V"), "H f(V)", lambda h, v: h * tokens_per_character(v)),
    ("C", ("N", "D"), "6 N D", lambda n, d: 6 * n * d),
)


@dataclass(frozen=True)
class Table:
    """Columns `[rows]` by the law's names, and what was done to get them."""

    columns: Mapping[str, Array]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_table(
    paths: Sequence[Path], law: Law, rename: Mapping[str, str] | None = None, last: bool = False
) -> Table:
    """Reads every file's rows for `law`.

    Args:
        paths: CSV files, or JSON lines such as training logs.
        law: its inputs and output are the columns.
        rename: the file's column for a law's name.
        last: only the final row of each file counts (a run's end).

    Returns:
        The rows of all files, in their order.

    Raises:
        ScalingError: for what cannot be used, naming file, row and column.
    """
    renamed = dict(rename or {})
    wanted = (*law.inputs, law.output[0])
    sources = {source for _, needs, _, _ in DERIVED for source in needs}
    for name in renamed:
        if name not in wanted and name not in sources:
            raise ScalingError(f"law {law.name} has no column {name!r}{hint(name, wanted)}")
    parts: list[dict[str, Array]] = []
    notes: list[str] = []
    for path in paths:
        part = _read(path, law, renamed, notes)
        parts.append({name: column[-1:] for name, column in part.items()} if last else part)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in wanted}
    return Table(columns, tuple(dict.fromkeys(notes)))


def _read(path: Path, law: Law, rename: Mapping[str, str], notes: list[str]) -> dict[str, Array]:
    records = list(_json_records(path, law, rename, notes) if _is_json(path) else _csv(path, notes))
    if not records:
        raise ScalingError(f"{path}: no rows")
    present = set().union(*(record.keys() for _, record in records))
    return {
        name: _column(path, law, name, records, present, rename, notes)
        for name in (*law.inputs, law.output[0])
    }


def _column(
    path: Path, law: Law, name: str, records: list[tuple[int, Record]], present: set[str],
    rename: Mapping[str, str], notes: list[str],
) -> Array:  # fmt: skip
    source = rename.get(name, name)
    if source in present:
        return _numbers(path, law, source, records, name)
    for target, needs, text, compute in DERIVED:
        sources = [rename.get(need, need) for need in needs]
        if target == name and name not in rename and all(each in present for each in sources):
            notes.append(f"{name} computed as {text}")
            return compute(*(_numbers(path, law, each, records, each) for each in sources))
    raise ScalingError(
        f"{path}: law {law.name} needs column {source!r}, which is missing"
        f"{did_you_mean(source, present, ';')} the file has {', '.join(sorted(present))}; "
        f"map one with --column {name}=..."
    )


def _numbers(
    path: Path, law: Law, source: str, records: list[tuple[int, Record]], name: str
) -> Array:
    found = []
    for line, record in records:
        raw = record.get(source)
        try:
            value = float(str(raw)) if not isinstance(raw, bool) else math.nan
        except ValueError:
            raise ScalingError(
                f"{path}, line {line}: {source} is {raw!r}, which is no number"
            ) from None
        if not math.isfinite(value):
            raise ScalingError(f"{path}, line {line}: {source} is {raw}; remove or mend the row")
        if value <= 0 and (name != law.output[0] or law.logarithmic):
            raise ScalingError(
                f"{path}, line {line}: {source} is {value:g}; law {law.name} needs it above 0"
            )
        found.append(value)
    return np.array(found)


def _is_json(path: Path) -> bool:
    return path.suffix.lower() in (".jsonl", ".ndjson", ".json")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScalingError(f"{path}: not UTF-8 text at byte {error.start}") from None


def _csv(path: Path, notes: list[str]) -> Iterator[tuple[int, Record]]:
    text = _text(path)
    first = text.partition("\n")[0]
    delimiter = next((each for each in DELIMITERS if each in first), ",")
    if delimiter != ",":
        notes.append(f"{path.name}: columns are separated by {delimiter!r}")
    reader = csv.DictReader(StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        names = [str(name).strip() for name in reader.fieldnames or ()]
        twice = [name for name in names if name and names.count(name) > 1]
        if twice:
            raise ScalingError(f"{path}, line 1: two columns are called {twice[0]!r}; rename one")
        for row in reader:
            if None in row or None in row.values():
                raise ScalingError(
                    f"{path}, line {reader.line_num}: not as many values as the first line has "
                    f"names ({len(reader.fieldnames or ())})"
                )
            yield reader.line_num, {str(key).strip(): value for key, value in row.items()}
    except csv.Error as error:
        raise ScalingError(f"{path}, line {reader.line_num}: {error}") from None


def _json_records(
    path: Path, law: Law, rename: Mapping[str, str], notes: list[str]
) -> Iterator[tuple[int, Record]]:
    output = rename.get(law.output[0], law.output[0])
    header: Record = {}
    skipped = 0
    keys: set[str] = set()
    for line, text in enumerate(_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ScalingError(
                f"{path}, line {line}: not JSON ({error}); each line is to hold one object"
            ) from None
        if not isinstance(record, dict):
            raise ScalingError(f"{path}, line {line}: not a JSON object")
        if record.get("kind") == COST:
            continue
        keys |= record.keys()
        if output in record:
            yield line, header | record
        else:
            skipped += 1
            header |= {k: v for k, v in record.items() if isinstance(v, int | float)}
    if skipped and output in keys:
        notes.append(
            f"{path.name}: {skipped} records without {output} give no row; their numbers hold for "
            "the records after them"
        )
    if keys and output not in keys:
        raise ScalingError(
            f"{path}: no record has {output!r}{did_you_mean(output, keys, ';')} "
            f"map one with --column {law.output[0]}=..."
        )
