"""Results of checks as files, and as the tables of pages. Needs nothing but the standard library.

A file holds the tables of a method: `{"tables": {name: {"origin", "columns", "rows", "notes"}}}`.
columns: from the name of a column to how its floats are written, as Python formats numbers ("" for
text). rows: from columns to cells. notes: figures that a page's text gives.

A cell is a text, a number, True or False, None for nothing, a list, `{"value", "error"}`, or any
other object, which is its first value with the others in brackets. Whole numbers are written as
they are. origin: where the figures come from; `"recorded": "from the page"` says that they were
taken over from a page older than these files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
Columns = Mapping[str, str]
Table = dict[str, Any]


def read(path: Path) -> dict[str, Table]:
    """The tables of a file by name; none where there is no file."""
    if not path.exists():
        return {}
    found: dict[str, Table] = json.loads(path.read_text(encoding="utf-8"))["tables"]
    return found


def write(path: Path, tables: Mapping[str, Table]) -> None:
    """Puts tables into a file, in place of those of the same names; others stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {**read(path), **tables}
    whole = ",\n".join(f" {_json(name)}: {_written(each)}" for name, each in found.items())
    path.write_text(f'{{"tables": {{\n{whole}\n}}}}\n', encoding="utf-8")


def _written(found: Table) -> str:
    """A table as JSON, a row a line, as whoever reads a diff wants it."""
    parts = []
    for name, value in found.items():
        text = _json(value)
        if name == "rows":
            text = "[\n" + ",\n".join(f"   {_json(row)}" for row in value) + "\n  ]"
        parts.append(f"  {_json(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n }"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def table(found: Table, only: Sequence[str] = ()) -> str:
    """A Markdown table. only: the first cells of rows to take, without their backquotes.

    Raises KeyError where a row that is asked for is not there.
    """
    columns: Columns = found["columns"]
    rows = found["rows"]
    if only:
        first = next(iter(columns))
        by_name = {str(row.get(first)).strip("`"): row for row in rows}
        rows = [by_name[name] for name in only]
    lines = [_line(list(columns)), "|" + "---|" * len(columns)]
    lines += [_line([cell(row.get(name), how) for name, how in columns.items()]) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "".join(f"| {text} " if text else "| " for text in cells) + "|"


def cell(value: Any, how: str = "") -> str:
    """A cell as it stands in a page; how: the format of floats."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return format(value, how or ",g")
    if isinstance(value, list):
        return ", ".join(cell(each, how) for each in value)
    if isinstance(value, dict):
        if set(value) == {"value", "error"}:
            return f"{cell(value['value'], how)} ± {cell(value['error'], how)}"
        first, *rest = (cell(each, how) for each in value.values())
        return f"{first} ({', '.join(rest)})"
    return str(value)


def origin_line(origin: Mapping[str, Any]) -> str:
    """What a table was measured on, in a line; empty where the page itself has said it."""
    if "recorded" in origin:
        return ""
    machine, versions = origin.get("machine", {}), origin.get("versions", {})
    parts = [
        ", ".join(machine[name] for name in ("gpu", "cpu", "cores", "threads") if name in machine),
        ", ".join(f"{name} {text}" for name, text in versions.items()),
        f"commit {origin['commit']}" if origin.get("commit") else "",
        origin.get("date", ""),
        f"`{origin['command']}`",
    ]
    return f"*{'; '.join(part for part in parts if part)}*"
