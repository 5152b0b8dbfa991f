"""Which keys of a run decide on its numbers."""

from __future__ import annotations

import fnmatch
from typing import Any

Table = dict[str, Any]
FREE = (
    "out", "folder", "checkpoint", "log", "evaluation", "parallel", "accumulate",
    "steps", "tokens", "epochs", "model.attention", "model.tokenizer",
    "model.export_dtype", "data.train", "data.validation", "upsampling.domains.*.data",
)  # fmt: skip
"""Keys that may change when a run is gone on with: they change no number, or are compared by what
they mean (steps done in all, checksums of data) instead of by what they say."""


def without(table: Table, keys: tuple[str, ...], prefix: str = "") -> Table:
    """The table less some keys, named with dots; `*` stands for any one name."""
    found = {}
    for name, value in table.items():
        here = f"{prefix}{name}"
        if any(fnmatch.fnmatchcase(here, key) for key in keys):
            continue
        found[name] = without(value, keys, f"{here}.") if isinstance(value, dict) else value
    return found
