"""What a call will write, checked before its work: hours must not end in a file that cannot be
written, nor in one that is gone.

A file to write is none of the files that the same call reads, whatever the two are called. It has a
folder that is there and takes files. Where a file lies already, either lengthwise wrote it, as a
file of the same kind, or the user says that it may go (`--force`). Files bear a mark that tells:
reports a `generator`, pictures the field for software, safetensors their header, fits and shelves
their fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise._utils.files import aside_of
from lengthwise.errors import LengthwiseError

MARK = "written by lengthwise"
PICTURES = (".png", ".svg", ".pdf")
# A mark stands this near to one end of its file.
_ENDS = 1 << 14
# A longer header of a safetensors file is none of ours.
_HEADER = 1 << 20
# And so is a larger fit.
_FIT = 1 << 26
# Options that were not given, and standard input.
_NO_FILES = (None, "", "-")


@dataclass(frozen=True)
class Kind:
    """A kind of file that lengthwise writes. what: in words. ours: whether a file is one of them.

    suffixes: those its name may have; none means any.
    """

    what: str
    ours: Callable[[Path], bool]
    suffixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """A file that an option names. path: None where the option was not given."""

    option: str
    path: Path | None
    kind: Kind


def check_outputs(
    outputs: Iterable[Output],
    inputs: Iterable[str | os.PathLike[str] | None] = (),
    force: bool = False,
) -> None:
    """Raises LengthwiseError for the first output that cannot or must not be written.

    inputs: files and folders that the call reads; None, "", "-" and what is not there are none.
    force: files that lengthwise did not write may be overwritten, those that are read never.
    """
    wanted = list(outputs)
    given = [(each, each.path) for each in wanted if each.path is not None]
    if force and not given:
        options = " or ".join(each.option for each in wanted)
        raise LengthwiseError(f"--force is for a file that is written: give {options} too")
    read = [Path(os.path.expanduser(each)) for each in inputs if each not in _NO_FILES]
    for number, (output, path) in enumerate(given):
        _check_place(output, path)
        _check_inputs(output, path, read)
        for other, earlier in given[:number]:
            if _same(path, earlier):
                raise LengthwiseError(
                    f"{other.option} and {output.option} name one file, {path}: give each its own"
                )
        if not force and path.exists() and not output.kind.ours(path):
            raise LengthwiseError(
                f"{output.option} {path}: a file that is no {output.kind.what} of lengthwise lies "
                "there: name another one, or add --force to overwrite it"
            )
        _check_writable(output.option, path)


def check_folder(
    option: str,
    path: Path,
    inputs: Iterable[str | os.PathLike[str] | None] = (),
    within: Path | None = None,
) -> None:
    """Raises LengthwiseError for a folder of results that cannot be made at `path`, or that is
    read. What lies in it already is judged by who writes there. within: another folder that the
    call makes first, which this one may lie in."""
    if path.exists() and not path.is_dir():
        raise LengthwiseError(f"{option} {path}: this is a file; name a folder")
    parent = path.absolute().parent
    made = within is not None and _same(parent, within)
    if not parent.is_dir() and not made:
        raise LengthwiseError(f"{option} {path}: there is no folder {path.parent}; make it first")
    for each in inputs:
        if each not in _NO_FILES and _same(path, Path(os.path.expanduser(each or ""))):
            raise LengthwiseError(
                f"{option} {path}: this is read by the same call: name another folder"
            )
    if made:
        return
    inside = path if path.is_dir() else parent
    _check_writable(option, inside / "lengthwise")


def picture_metadata(path: Path) -> dict[str, str]:
    """The mark for matplotlib's `savefig(metadata=...)`, by the suffix of the picture."""
    return {"Software" if path.suffix == ".png" else "Creator": MARK}


def _check_place(output: Output, path: Path) -> None:
    option, suffixes = output.option, output.kind.suffixes
    if path.is_dir():
        raise LengthwiseError(f"{option} {path}: this is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise LengthwiseError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if exists(path) and not path.is_file():
        raise LengthwiseError(f"{option} {path}: this is a device or a pipe; name a file")
    if suffixes and path.suffix not in suffixes:
        raise LengthwiseError(
            f"{option} {path}: a {output.kind.what} is written as {', '.join(suffixes)}, not "
            f"{path.suffix or 'without a suffix'}"
        )


def _check_inputs(output: Output, path: Path, read: list[Path]) -> None:
    """Refuses an output that is read, or that lies in a folder which is and is not ours."""
    for each in read:
        if _same(path, each):
            raise LengthwiseError(
                f"{output.option} {path}: this file is read by the same call, and would be lost: "
                "name another one"
            )
        inside = each.is_dir() and path.exists() and not output.kind.ours(path)
        if inside and any(_same(path, file) for file in each.rglob("*")):
            raise LengthwiseError(
                f"{output.option} {path}: this file lies in {each}, which the same call reads, and "
                "would be lost: name another one"
            )


def _check_writable(option: str, path: Path) -> None:
    """Tries the very name that is written to, which is longer than the file's own."""
    place = aside_of(Path(os.path.realpath(path)))
    try:
        with place.open("xb"):
            pass
        place.unlink()
    except OSError as error:
        raise LengthwiseError(
            f"{option} {path}: it cannot be written ({error.strerror or error})"
        ) from None


def exists(path: Path) -> bool:
    """Whether there is anything at a path; a text that can be no path is none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a zero byte in it
        return False


def _same(one: Path, other: Path) -> bool:
    """Whether two names mean one file: through links of either kind, or once both are written."""
    try:
        if one.resolve() == other.resolve():
            return True
        return one.exists() and other.exists() and one.samefile(other)
    except (OSError, ValueError, RuntimeError):  # a name too long, a loop of links
        return False


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(_ENDS)
        file.seek(max(len(start), path.stat().st_size - _ENDS))
        return start + file.read(_ENDS)


def _is_report(path: Path) -> bool:
    found = _ends(path)
    mark = f'<meta name="generator" content="{MARK}">'.encode()
    return found.lstrip().lower().startswith(b"<!doctype html") and mark in found


def _is_picture(path: Path) -> bool:
    found = _ends(path)
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF-"}
    start = starts.get(path.suffix)
    return start is not None and found.startswith(start) and MARK.encode() in found


def _is_fit(path: Path) -> bool:
    if path.stat().st_size > _FIT:
        return False
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"law", "values", "objective", "ranges"} <= set(found)


def _is_shelf(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(_HEADER)
    try:
        found: Any = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"engine", "recipe", "share", "full_bytes"} <= set(found)


def _header(path: Path) -> dict[str, str]:
    """The header that a safetensors file keeps beside its arrays; empty for any other file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        raw = file.read(size) if size <= _HEADER else b""
    try:
        found: Any = json.loads(raw)
        return dict(found["__metadata__"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


REPORT = Kind("report", _is_report)
PICTURE = Kind("picture", _is_picture, PICTURES)
FIT = Kind("fit", _is_fit)
SHELF = Kind("shelf", _is_shelf)
SESSION = Kind("session", lambda path: "lengthwise" in _header(path))
DATASTORE = Kind("datastore", lambda path: _header(path).get("format") == "lengthwise datastore")
ENCODER = Kind("encoder", lambda path: "lengthwise encoder" in _header(path))
HYPERNETWORK = Kind("network", lambda path: "lengthwise hypernetwork" in _header(path))
RANKER = Kind("ranker", lambda path: "lengthwise ranker" in _header(path))
HEAD = Kind(
    "acceptance head",
    lambda path: _header(path).get("kind", "").startswith("lengthwise acceptance"),
)
