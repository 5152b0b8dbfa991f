"""A model with its new tokenizer as an ordinary folder of transformers, whole or not at all."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from lengthwise._utils.files import ASIDE
from lengthwise._utils.own_files import exchange, files_in
from lengthwise.errors import TokenizerError

ORIGIN = "transplanted.json"
"""What was transplanted, and how; it marks a folder as ours."""
# Letters of several scripts, digits, spaces, a sign of four bytes.
_SAMPLE = "The cat's 12,345 hats\n\n\tétait çok güzel, 猫 и кот 🙂  end "


def is_ours(folder: Path) -> bool:
    """Whether a transplant wrote a folder.

    Args:
        folder: any path.
    """
    return (folder / ORIGIN).is_file()


def save(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
    origin: dict[str, Any],
) -> None:  # fmt: skip
    """Writes a folder that transformers loads, aside, and puts it in its place at the end.

    Args:
        folder: to write; one of ours that is there is replaced, others' files in it stay.
        model: of the tokenizer.
        tokenizer: a fast one.
        origin: what is told of it in ORIGIN.

    Raises:
        TokenizerError: where the disk refuses, or transformers would read another tokenizer.
    """

    def write(aside: Path) -> None:
        with _without_bars():
            model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        _check(aside, tokenizer)

    place(folder, write, origin)


def place(folder: Path, write: Callable[[Path], object], origin: dict[str, Any]) -> None:
    """Makes a folder aside, marks it as ours, and puts it where it belongs.

    A folder that is there stays, with other contents: it may be the working one, or a mount.

    Args:
        folder: to write. Of one of ours what a transplant wrote is replaced, of another one all.
        write: makes the folder that it is given.
        origin: what is told of it in ORIGIN.

    Raises:
        TokenizerError: where the disk refuses, or another's file has a name that is to be written.
    """
    there = folder.resolve()
    aside = there.with_name(f".{there.name}{ASIDE}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        write(aside)
        told = {**origin, "files": files_in(aside)}
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        (aside / ORIGIN).write_text(text, encoding="utf-8")
        _give_usual_rights(aside)
        if there.exists() and not is_ours(there):
            _empty(there)
        exchange(aside, there, ORIGIN, TokenizerError)
    except (OSError, SafetensorError) as error:
        raise TokenizerError(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _empty(folder: Path) -> None:
    for each in list(folder.iterdir()):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _give_usual_rights(folder: Path) -> None:
    """Those of ORIGIN: safetensors gives its files to their owner alone."""
    rights = stat.S_IMODE((folder / ORIGIN).stat().st_mode)
    for each in folder.rglob("*"):
        if each.is_file():
            each.chmod(rights)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without transformers' own, which would break ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses a folder whose tokenizer transformers would make into another one."""
    found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in (_SAMPLE, *tokenizer.all_special_tokens):
        if found.encode(text) != tokenizer.encode(text):
            raise TokenizerError(
                f"transformers reads the tokenizer of a model of this family ("
                f"{type(found).__name__}) otherwise than it is written: {text!r} gets other ids"
            )


__all__ = ["ORIGIN", "is_ours", "place", "save"]
