"""The work folder of a training: whose work it is, and what was done of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lengthwise._utils.files import write_aside, write_text
from lengthwise.errors import TokenizerError

_SETTINGS, _TRAINED = "training.json", "trained.json"


class Work:
    """A folder that outlives a training that was stopped.

    folder: made where there is none. settings: what is trained, as JSON has it; the same go on.

    Raises TokenizerError where the folder holds something else.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        path = folder / _SETTINGS
        if not folder.exists() or not any(folder.iterdir()):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(settings, indent=1))
            return
        found = _settings(path)
        other = next((key for key in settings if found.get(key) != settings[key]), None)
        if other is not None:
            there, here = _short(found.get(other)), _short(settings[other])
            raise TokenizerError(
                f"{folder} holds the work of another training ({other} is {there} there, and "
                f"{here} here): remove it, or name another --out"
            )

    def trained(self) -> Tokenizer | None:
        """The tokenizer where training ended, and what came behind it did not."""
        path = self.folder / _TRAINED
        return Tokenizer.from_file(str(path)) if path.exists() else None

    def keep(self, tokenizer: Tokenizer) -> None:
        """Keeps the tokenizer that was trained."""
        with write_aside(self.folder / _TRAINED) as aside:
            tokenizer.save(str(aside))

    def done(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)


def check_work(folder: Path) -> None:
    """Raises TokenizerError for a folder of something else than a training's work."""
    if folder.is_dir() and any(folder.iterdir()):
        _settings(folder / _SETTINGS)


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


__all__ = ["Work", "check_work"]
