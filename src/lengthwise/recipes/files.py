"""Files that recipes read, as far as their text tells."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lengthwise._utils.outputs import exists
from lengthwise.recipes.parser import parse


def files_of(recipes: Iterable[str]) -> list[str]:
    """Files and folders that recipes read: the texts among their options that name one."""
    found = []
    for recipe in recipes:
        for method in parse(recipe).methods:
            values = [value for value in vars(method).values() if isinstance(value, str)]
            found += [
                value for value in values if value and exists(Path(os.path.expanduser(value)))
            ]
    return found
