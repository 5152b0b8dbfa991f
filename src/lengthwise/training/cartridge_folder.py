"""Folders that are bound to what was done in them first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lengthwise.sequences.files import read_json, said_plainly, sweep, write_json
from lengthwise.training.config import TrainingError


def claim(
    folder: Path, name: str, about: dict[str, Any], what: str, done: str | None = None
) -> None:
    """Makes a folder this work's own, or makes sure that it is.

    Args:
        folder: it is made where there is none. What a crash left half-written goes.
        name: of the file that says what the folder is of.
        about: what decides on what is in it, as plain data.
        what: what it holds, in words.
        done: a file without which nothing was done there yet, so that it may become another's; None
            binds it at once.

    Raises:
        LengthwiseError: where it holds something else, or the disk refuses.
    """
    place = folder / name
    with said_plainly(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        if any(each.name != name for each in folder.iterdir()):
            raise TrainingError(f"{folder} holds something else than {what}: name another folder")
        write_json(place, about)
        return
    sweep(folder)
    if done is not None and not (folder / done).exists():
        write_json(place, about)
        return
    before = read_json(place)
    if not isinstance(before, dict):
        raise TrainingError(f"{place} is damaged: put it back, or name another folder")
    known = before.keys() | about.keys()
    differing = sorted(key for key in known if before.get(key) != about.get(key))
    if differing:
        said = ", ".join(f"{key}={before.get(key)} and not {about.get(key)}" for key in differing)
        raise TrainingError(
            f"{folder} holds {what} with {said}: set it back to go on, or name another folder"
        )


__all__ = ["claim"]
