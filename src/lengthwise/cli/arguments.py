"""What arguments are refused for before any model is loaded and any work is done."""

from __future__ import annotations

from pathlib import Path

from lengthwise.errors import LengthwiseError


def check_file(option: str, path: Path) -> None:
    """Refuses a file to write that has no folder, or that is one: known now, not after the work."""
    if path.is_dir():
        raise LengthwiseError(f"{option} {path}: this is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise LengthwiseError(f"{option} {path}: there is no folder {path.parent}")


def check_text(what: str, text: str) -> None:
    """Refuses text that came in as bytes which are no UTF-8: Python passes those on as lone
    surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LengthwiseError(f"{what} is not UTF-8 text (at character {error.start})") from None
