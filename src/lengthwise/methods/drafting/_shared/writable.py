"""Whether a drafter can write the file it will keep, asked before the run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lengthwise.errors import RecipeError


def check_writable(name: str, path: str) -> None:
    """Raises RecipeError where no file can be written at a path; leaves nothing behind.

    name: of the method that keeps it.
    """
    place = Path(os.path.expanduser(path)).absolute()
    reason = "this is a folder" if place.is_dir() else ""
    if not place.parent.is_dir():
        reason = f"there is no folder {place.parent}"
    try:
        with tempfile.TemporaryFile(dir=place.parent):
            pass
    except OSError as error:
        reason = reason or error.strerror or str(error)
    if reason:
        raise RecipeError(
            f"{name}: {place} cannot be written ({reason}); give a path that can be written"
        )


__all__ = ["check_writable"]
