"""Folders that we write and write anew, into which others may put files: theirs stay.

A JSON file of the folder, its mark, says under `files` what was written with it.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from lengthwise._utils.files import write_text
from lengthwise.errors import LengthwiseError

_WEIGHTS = "model*.safetensors*"


def files_in(folder: Path) -> list[str]:
    """The names of all files under a folder, sorted.

    Args:
        folder: where they lie; what links lead to is not looked at.
    """
    found = (each for each in folder.rglob("*") if each.is_symlink() or not each.is_dir())
    return sorted(each.relative_to(folder).as_posix() for each in found)


def exchange(new: Path, old: Path, mark: str, error: type[LengthwiseError]) -> None:
    """Puts the files of a folder in the place of those that an older mark names.

    Cut short, it leaves a mark that names the files of both and says nothing else.

    Args:
        new: with its mark, is gone at the end.
        old: may be missing.
        mark: its name in both.
        error: what is raised.

    Raises:
        LengthwiseError: where another's file has a name that is to be written; all stays then.
        OSError: where the disk refuses.
    """
    if not old.exists():
        os.replace(new, old)
        return
    fresh, there = set(files_in(new)), set(files_in(old))
    ours = there & _written(old, mark, fresh)
    if others := sorted(name for name in fresh - ours if os.path.lexists(old / name)):
        raise error(
            f"{old} holds {', '.join(others[:3])}{', ...' * (len(others) > 3)}, which lengthwise "
            "did not write and would replace: put it elsewhere and run the same command again"
        )
    write_text(old / mark, json.dumps({"files": sorted(fresh | ours)}))
    for name in ours - fresh:
        (old / name).unlink(missing_ok=True)
        with suppress(OSError):  # of a folder that is not empty
            (old / name).parent.rmdir()
    for name in sorted(fresh, key=lambda name: name == mark):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(new / name, old / name)
    shutil.rmtree(new, ignore_errors=True)


def _written(folder: Path, mark: str, fresh: set[str]) -> set[str]:
    """What the mark names; where none does, all weights and what would be written now."""
    try:
        return {mark, *json.loads((folder / mark).read_text(encoding="utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {*fresh, *(each.name for each in folder.glob(_WEIGHTS))}


__all__ = ["exchange", "files_in"]
