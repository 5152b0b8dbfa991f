"""The work folder of a training: whose work it is, and what was done of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lengthwise._utils.files import ASIDE, write_aside, write_text
from lengthwise.errors import TokenizerError

_SETTINGS, _TRAINED, _KIND = "training.json", "trained.json", "kind"


class Work:
    """A folder that outlives a training that was stopped.

    folder: made where there is none. settings: what is trained, as JSON has it; the same go on.
    begun: whether this call made the work, and goes on from nothing. of_kind: a folder within, for
    the files of a kind.

    Raises TokenizerError where the folder holds something else.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.of_kind = folder, folder / _KIND
        path = folder / _SETTINGS
        self.begun = not holds(folder)
        if self.begun:
            write_text(path, json.dumps(settings, indent=1))
        found = _settings(path)
        other = next((key for key in settings if found.get(key) != settings[key]), None)
        if other is not None:
            there, here = _short(found.get(other)), _short(settings[other])
            raise TokenizerError(
                f"{folder} holds the work of another training ({other} is {there} there, and "
                f"{here} here): remove it, or name another --out"
            )
        self.of_kind.mkdir(exist_ok=True)

    def trained(self) -> Tokenizer | None:
        """The tokenizer where training ended, and what came behind it did not."""
        path = self.folder / _TRAINED
        return Tokenizer.from_file(str(path)) if path.exists() else None

    def keep(self, tokenizer: Tokenizer) -> Tokenizer:
        """Keeps the tokenizer that was trained; gives it as it is read again.

        The library writes scores that are read a last digit off, so a run that was stopped behind
        this would end in another file than one that was not.
        """
        path = self.folder / _TRAINED
        with write_aside(path) as aside:
            tokenizer.save(str(aside))
        return Tokenizer.from_file(str(path))

    def done(self) -> None:
        """Removes what a training wrote, and the folder where nothing else lies in it."""
        shutil.rmtree(self.of_kind)
        for name in (_TRAINED, _SETTINGS):
            (self.folder / name).unlink(missing_ok=True)
        for each in self.folder.glob(f".*{ASIDE}"):
            each.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def work_of(out: Path, work: Path | None) -> Path:
    """The work folder of a training.

    Args:
        out: folder of the tokenizer.
        work: the one that the user names; None is OUT.run.

    Raises:
        TokenizerError: one of them is a file, OUT lies in the work folder, which is removed at the
            end, or that one holds something else than a training's work.
    """
    place = out.resolve()
    if not place.name:
        raise TokenizerError(f"{out} cannot be written: name a folder in it")
    folder = place.with_name(f"{place.name}.run") if work is None else work
    for each in (out, folder):
        if each.exists() and not each.is_dir():
            raise TokenizerError(f"{each} is a file: name a folder")
    if folder.resolve() in (place, *place.parents):
        raise TokenizerError(
            f"{out} lies in the work folder {folder}, which is removed at the end: name another one"
        )
    if holds(folder):
        _settings(folder / _SETTINGS)
    return folder


def holds(folder: Path, but: Path | None = None) -> bool:
    """Whether something lies in a folder, beside what a killed call was writing.

    Args:
        folder: it need not be there.
        but: something in it that does not count.
    """
    if not folder.is_dir():
        return False
    found = (each for each in folder.iterdir() if not each.name.endswith(ASIDE))
    return any(but is None or each.resolve() != but.resolve() for each in found)


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "kind" not in found:
        raise TokenizerError(
            f"{path.parent} holds something else than the work of a tokenizer's training: remove "
            "it, or name another folder"
        )
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."


__all__ = ["Work", "holds", "work_of"]
