"""Items to be labelled, read from a file: one a line, as plain text or as JSON objects.

A line of JSON is `{"text": "...", "id": "..."}`, where `id` may be missing and another field may
hold the text. A file is read as JSON lines where its first line that is not blank begins with a
brace.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise.documents.encodings import decode
from lengthwise.errors import DocumentError

# Lines that one message names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Item:
    """One item. line: where it stands in its file, from 1. id: its own name, if it has one."""

    text: str
    line: int
    id: str | int | None = None


def read_items(path: str | os.PathLike[str], field: str = "text") -> list[Item]:
    """All items of a file, in its order.

    Args:
        path: of plain lines, or of JSON lines.
        field: of a JSON object, that holds the text.

    Returns:
        The items, at least one.

    Raises:
        DocumentError: for a file that cannot be read, is binary or holds none, and for lines that
            are no items, with their numbers.
    """
    place = Path(os.path.expanduser(path))
    try:
        text = decode(place.read_bytes(), str(path))
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror or error})") from error
    lines = [(number, each) for number, each in enumerate(text.split("\n"), 1) if each.strip()]
    if not lines:
        raise DocumentError(
            f'{path}: holds no item; write one a line, as text or as {{"{field}": "..."}}'
        )
    if not lines[0][1].lstrip().startswith("{"):
        return [Item(each.strip(), number) for number, each in lines]
    return _objects(str(path), lines, field)


def _objects(path: str, lines: list[tuple[int, str]], field: str) -> list[Item]:
    found: list[Item] = []
    wrong: list[tuple[int, str]] = []
    for number, line in lines:
        item = _item(number, line, field)
        if isinstance(item, Item):
            found.append(item)
        else:
            wrong.append((number, item))
    if wrong:
        number, why = wrong[0]
        others = ", ".join(str(n) for n, _ in wrong[1:_NAMED])
        more = f" (and {len(wrong) - 1} other lines: {others}" if others else ""
        more += (", ...)" if len(wrong) > _NAMED else ")") if others else ""
        raise DocumentError(f"{path}, line {number}: {why}{more}")
    return found


def _item(number: int, line: str, field: str) -> Item | str:
    """An item, or what is wrong with a line."""
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"no JSON object ({error}); write one a line, as the first is"
    if not isinstance(found, dict):
        return f'no JSON object; write {{"{field}": "..."}}'
    text, name = found.get(field), found.get("id")
    if not isinstance(text, str) or not text.strip():
        fields = ", ".join(map(str, found)) or "none"
        return f'"{field}" must hold text that is not empty (fields here: {fields})'
    if name is not None and (isinstance(name, bool) or not isinstance(name, (str, int))):
        return '"id" must be a text or a whole number'
    return Item(text, number, name)


__all__ = ["Item", "read_items"]
