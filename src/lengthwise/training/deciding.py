"""Which keys of a run decide on its numbers, and which do nothing."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any

Table = dict[str, Any]
FREE = (
    "out", "folder", "checkpoint", "log", "evaluation", "parallel", "accumulate",
    "steps", "tokens", "epochs", "model.attention", "model.tokenizer",
    "model.export_dtype", "data.train", "data.validation", "upsampling.domains.*.data",
)  # fmt: skip
"""Keys that may change when a run is gone on with: they change no number, or are compared by what
they mean (steps done in all, checksums of data) instead of by what they say."""

NEEDING = {
    "model.tokenizer": "model.checkpoint", "evaluation.*": "data.validation",
    "upsampling.share": "upsampling.domains", "growth.*": "growth.at_step",
}  # fmt: skip
"""Keys that do nothing without another one."""


def idle(run: Any) -> Iterator[tuple[str, Any, str]]:
    """Keys of a run that were set and do nothing: name, value, and the key that is missing."""
    for key, needed in NEEDING.items():
        section, _, name = key.partition(".")
        options = getattr(run, section)
        for each in fields(options) if not attrgetter(needed)(run) else ():
            value = getattr(options, each.name)
            if name in ("*", each.name) and value != each.default:
                yield f"{section}.{each.name}", value, needed


def without(table: Table, keys: tuple[str, ...], prefix: str = "") -> Table:
    """The table less some keys, named with dots; `*` stands for any one name."""
    found = {}
    for name, value in table.items():
        here = f"{prefix}{name}"
        if any(fnmatch.fnmatchcase(here, key) for key in keys):
            continue
        found[name] = without(value, keys, f"{here}.") if isinstance(value, dict) else value
    return found
