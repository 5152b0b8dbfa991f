"""Published files of cases: JSON lines, or one JSON list, as numbered objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lengthwise.documents.encodings import decode
from lengthwise.errors import DocumentError


def json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Objects of a file of JSON lines, or of one JSON list, each with its number from 1 on.

    Args:
        path: of the file.

    Returns:
        (number, object) pairs.

    Raises:
        DocumentError: for a file that cannot be read, and for a line that is no JSON object.
    """
    try:
        text = decode(path.read_bytes(), path.name)
    except OSError as error:
        raise DocumentError(f"cannot read {path.name}: {error}") from error
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):  # the latter where lists are nested without end
        whole = None
    if isinstance(whole, list):
        records = list(enumerate(whole, 1))
    else:
        records = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    records.append((number, json.loads(line)))
                except (ValueError, RecursionError) as error:
                    raise DocumentError(
                        f"{path.name}, line {number} is no JSON: {error}"
                    ) from error
    for number, record in records:
        if not isinstance(record, dict):
            raise DocumentError(f"{path.name}, line {number} is no JSON object")
    return records
