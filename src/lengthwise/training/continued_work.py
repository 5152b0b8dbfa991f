"""The work folder of a transplant that trains on: whose run lies in it, and what goes at the end.

What decides on the result is put down before anything else is, weights of the model included: a run
that was stopped goes on with the same, and is refused to a command that differs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise._utils.files import ASIDE, write_text
from lengthwise._utils.outputs import exists
from lengthwise.errors import TokenizerError
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.files import said_plainly
from lengthwise.sequences.records import Fields
from lengthwise.tokenization.transplant.method import Transplant
from lengthwise.training.continued import Continued

MARK = "transplant.json"
"""What decides on the result; it marks a folder as ours."""
START = "start"
"""The folder in it of the model that is trained on."""
_LEFT = (START, "data", "run")
_LONGEST = 32


class Work:
    """A folder that outlives a run that was stopped.

    Attributes:
        folder: where it lies, in full.
        begun: whether an earlier call made it.
    """

    def __init__(self, folder: Path, asked: dict[str, Any]) -> None:
        """Takes a folder, or makes it.

        Args:
            folder: of an earlier call with the same, or empty, or none yet.
            asked: what decides on the result, by the name that a user knows it by.

        Raises:
            TokenizerError: for a folder of another run, or of something else.
        """
        self.folder = folder.resolve()
        before = check_work(self.folder)
        self.begun = before is not None
        if before is None:
            with said_plainly(self.folder):
                self.folder.mkdir(exist_ok=True)
                write_text(self.folder / MARK, json.dumps(asked, indent=1))
            return
        other = [name for name in asked if before.get(name) != asked[name]]
        if other:
            said = ", ".join(_said(name, before.get(name), asked[name]) for name in other)
            raise TokenizerError(
                f"{folder} holds a run with {said}: set it back to go on, delete {folder} to begin "
                "anew, or name another folder with --work"
            )

    def done(self) -> None:
        """Removes what a run has left in the folder, and the folder if nothing else lies in it."""
        for each in list(self.folder.iterdir()):
            if each.is_dir() and (each.name in _LEFT or each.name.endswith(ASIDE)):
                shutil.rmtree(each, ignore_errors=True)
            elif each.name == MARK or each.name.endswith(ASIDE):
                each.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def check_work(folder: Path) -> dict[str, Any] | None:
    """What the run in a folder was asked for; None where nothing lies in it.

    Args:
        folder: any path.

    Raises:
        TokenizerError: for a folder of something else.
    """
    if not folder.is_dir() or all(each.name.endswith(ASIDE) for each in folder.iterdir()):
        return None
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise TokenizerError(
            f"{folder} holds something else than the run of a transplant: name another folder with "
            "--work, or empty this one"
        )
    return found


def deciding(
    model: PreTrainedModel, new: PreTrainedTokenizerBase, method: Transplant,
    learn: tuple[str, ...], how: Continued,
) -> dict[str, Any]:  # fmt: skip
    """What a run comes of, by the names that a user knows it by.

    Args:
        model: before it is given the new tokenizer, which changes it.
        new: the tokenizer.
        method: makes rows; files and folders that it names count by what is in them.
        learn: the sources of the text.
        how: training goes on.
    """
    saved = [new.backend_tokenizer.to_str(), new.special_tokens_map, new.chat_template]
    places = {
        f"{name} of --by": _of_place(place)
        for name, value in vars(method).items()
        if isinstance(value, str) and value and exists(place := Path(value).expanduser())
    }
    return {
        "MODEL": _of_model(model),
        "tokenizer": hashlib.sha256(repr(saved).encode()).hexdigest(),
        "--by": repr(method), **places,
        "--learn": Sources(learn, Fields()).survey().fingerprint,
        **{f"--{name}": value for name, value in vars(how).items()},
    }  # fmt: skip


def _of_model(model: PreTrainedModel) -> str:
    """A digest of all weights, by their names."""
    seen = hashlib.sha256()
    for name, each in sorted(model.state_dict().items()):
        seen.update(f"{name} {each.dtype} {tuple(each.shape)}\n".encode())
        seen.update(each.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return seen.hexdigest()


def _of_place(place: Path) -> str:
    """A digest of a file, or of all files of a folder."""
    seen = hashlib.sha256()
    for each in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if each.is_file():
            with each.open("rb") as file:
                seen.update(each.name.encode())
                seen.update(hashlib.file_digest(file, "sha256").digest())
    return seen.hexdigest()


def _said(name: str, before: Any, now: Any) -> str:
    """How two settings differ; a digest says nothing to anybody."""
    both = f"{name} {before} and not {now}"
    return both if len(both) <= len(name) + _LONGEST else f"another {name}"


__all__ = ["MARK", "START", "Work", "check_work", "deciding"]
