"""Which files of a folder are read, and what is said of the others."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.streams import opened, unpacked_name

_PASSED_BY = {"__pycache__", "node_modules"}
_SAVED = {"state.json", "dataset_info.json", "dataset_dict.json"}
"""What `datasets` writes beside the Arrow files of a data set that it saves."""
_SAMPLE = 4096

HIDDEN = "hidden"
LINK = "links"


class Passed:
    """Files and folders that are not read, by why: a suffix, hidden, a link, node_modules."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, why: str, path: Path) -> None:
        self._counts[why] += 1
        self._first.setdefault(why, str(path))

    def counts(self) -> dict[str, int]:
        """How many there are of each, the most first."""
        return dict(self._counts.most_common())

    def advice(self) -> str:
        """What would make something of them be read, for a folder of which nothing is."""
        suffixes = [why for why in self._counts if why.startswith(".")]
        readable = [why for why in suffixes if _is_text(self._first[why])]
        if readable:
            asked = " ".join(f"--suffix {why}" for why in readable[:3])
            return f": read them with {asked}"
        for why in (HIDDEN, "no suffix", *_PASSED_BY, LINK):
            if why in self._counts:
                what = {HIDDEN: "it is hidden", LINK: "it is a link"}.get(why, "it is passed by")
                what = "it has no suffix" if why == "no suffix" else what
                return f" ({what}): name {self._first[why]} itself to have it read"
        if suffixes:
            return f" (it holds {', '.join(suffixes[:3])}, which are no text)"
        return ""


class Walk:
    """Goes through a folder. wanted: whether the file at a path is read."""

    def __init__(self, wanted: Callable[[Path], bool], passed: Passed) -> None:
        self._wanted, self._passed = wanted, passed

    def of(self, folder: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
        """(path under the folder, "") of each file that is read, sorted by name; for a folder that
        cannot be read, its path and why."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield prefix or ".", str(error.strerror)
            return
        saved = _saved_files(folder) if "state.json" in {e.name for e in entries} else None
        for entry in entries:
            path = folder / entry.name
            if why := _passed_by_why(entry):
                self._passed.add(why, path)
            elif entry.is_dir():
                yield from self.of(path, f"{prefix}{entry.name}/")
            elif not entry.is_file() or entry.name in _SAVED:
                continue
            elif not self._wanted(path) or _is_cache_of(saved, entry.name):
                self._passed.add(suffix_of(entry.name), path)
            else:
                yield prefix + entry.name, ""


def passed_by(name: str) -> bool:
    """Whether a file or folder of this name is not read as part of a folder."""
    return name.startswith(".") or name in _PASSED_BY


def suffix_of(name: str) -> str:
    """The suffix of a file, with that of what is packed in it; `no suffix`."""
    inner, packed = unpacked_name(name)
    suffix = Path(inner).suffix.lower()
    return suffix + (name[len(inner) :].lower() if packed else "") or "no suffix"


def _passed_by_why(entry: os.DirEntry[str]) -> str:
    if entry.name.startswith("."):
        return HIDDEN
    if entry.name in _PASSED_BY:
        return entry.name
    return LINK if entry.is_symlink() else ""


def _saved_files(folder: Path) -> set[str] | None:
    """The Arrow files of a data set that `datasets` saved; None where that is of something else."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return {each["filename"] for each in state["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_cache_of(saved: set[str] | None, name: str) -> bool:
    """Whether an Arrow file is what `datasets` worked out later, of rows that are read already."""
    return saved is not None and name.endswith(".arrow") and name not in saved


def _is_text(path: str) -> bool:
    try:
        with opened(path) as file:
            sample = file.read(_SAMPLE)
        # A character may be cut at the end of the sample.
        text = sample.decode(errors="ignore" if len(sample) == _SAMPLE else "strict")
    except (SequenceError, ValueError):
        return False
    return "\0" not in text and bool(text.strip())
