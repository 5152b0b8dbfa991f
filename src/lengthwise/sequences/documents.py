"""Where documents come from: text and code files, JSONL, Parquet, folders of them, `datasets`.

Nothing is held but the record being read, and the order is that of sorted names, so a run that was
stopped finds its place again by counting.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lengthwise.sequences import records
from lengthwise.sequences.errors import SequenceError, hint
from lengthwise.sequences.files import glimpse
from lengthwise.sequences.records import Fields, Record

Kind = Literal["text", "jsonl", "parquet", "datasets"]

TEXT = (".txt", ".text", ".md", ".markdown", ".rst")
CODE = (".py", ".pyi", ".js", ".jsx", ".ts", ".tsx", ".java", ".c", ".h", ".cc", ".cpp", ".hpp",
        ".cs", ".go", ".rs", ".rb", ".php", ".swift", ".kt", ".scala", ".jl", ".lua", ".pl", ".r",
        ".sh", ".sql", ".hs", ".ml", ".ex", ".exs", ".clj", ".zig")  # fmt: skip
TABLES: dict[str, Kind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
SUFFIXES = (*TEXT, *CODE, *TABLES)
HUB = "datasets:"
_PASSED_BY = {"__pycache__", "node_modules"}


@dataclass(frozen=True)
class SourceFile:
    """One thing to read: where it is, what to call it, and the repository of what is in it."""

    location: str
    name: str
    repository: str
    kind: Kind

    @property
    def size(self) -> int:
        """Bytes on disk; 0 for what is not a file."""
        return 0 if self.kind == "datasets" else Path(self.location).stat().st_size


@dataclass(frozen=True)
class Survey:
    """What sources amount to before any text is read; `fingerprint` changes when a file does."""

    files: int
    bytes: int
    fingerprint: str


class Sources:
    """The documents of several sources, one after another.

    sources: paths of files or folders, or `datasets:NAME[,CONFIG][@SPLIT]`.
    suffixes: which files of a folder are read (default: text, code, JSONL and Parquet). A file
        named itself is always read, as text where its suffix says nothing else.

    Raises SequenceError for a path that does not exist and a folder with nothing to read.
    """

    def __init__(
        self, sources: tuple[str, ...], fields: Fields, suffixes: tuple[str, ...] = ()
    ) -> None:
        if not sources:
            raise SequenceError("no source given: name files, folders or datasets:NAME")
        self._sources, self._fields = sources, fields
        self._suffixes = tuple(f".{s.removeprefix('.').lower()}" for s in suffixes) or SUFFIXES
        for source in sources:
            if not source.startswith(HUB):
                self._require(source)

    def hold(self, path: Path) -> bool:
        """Whether something written at `path` would be read as one of the documents."""
        own = path.resolve()
        folders = [Path(s).resolve() for s in self._sources if not s.startswith(HUB)]
        return any(
            not any(map(_passed_by, own.relative_to(folder).parts))
            for folder in folders
            if folder.is_dir() and own.is_relative_to(folder)
        )

    def files(self) -> Iterator[SourceFile]:
        """Every file in the order it is read."""
        roots: Counter[str] = Counter()
        for source in self._sources:
            if source.startswith(HUB):
                name = source.removeprefix(HUB)
                yield SourceFile(name, name, name, "datasets")
                continue
            path = Path(source)
            if path.is_dir():
                root = path.resolve().name
                roots[root] += 1
                if roots[root] > 1:
                    # Two folders of one name are two projects: their files are not to be paired.
                    root = f"{root}({roots[root]})"
                for relative in self._walk(path, ""):
                    top, _, rest = relative.partition("/")
                    repository = f"{root}/{top}" if rest else root
                    yield self._file(path / relative, f"{root}/{relative}", repository)
            else:
                yield self._file(path, path.name, path.stem)

    def survey(self) -> Survey:
        """Counts and sizes; opens each Parquet file, so that a damaged one stops nothing later.

        Raises SequenceError naming the file or folder that is wrong.
        """
        files, size, seen = 0, 0, hashlib.sha256()
        for file in self.files():
            records.check(file.location, file.kind, self._fields)
            files, size = files + 1, size + file.size
            stamp = "" if file.kind == "datasets" else _stamp(Path(file.location))
            seen.update(f"{file.name}\0{file.kind}\0{file.size}\0{stamp}\n".encode())
            if file.kind != "text":
                seen.update(f"{self._fields.text}\0{self._fields.repository}\n".encode())
        if not files:
            raise SequenceError(self._nothing())
        return Survey(files, size, seen.hexdigest())

    def read(self, file: int = 0, record: int = 0) -> Iterator[tuple[int, Record]]:
        """(number of the file, what was read), from the given record of the given file on."""
        for number, source in enumerate(self.files()):
            if number >= file:
                skip = record if number == file else 0
                for found in records.read(source, self._fields, skip):
                    yield number, found

    def _file(self, path: Path, name: str, repository: str) -> SourceFile:
        kind = TABLES.get(path.suffix.lower(), "text")
        return SourceFile(str(path), _sayable(name), _sayable(repository), kind)

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if _passed_by(entry.name) or entry.is_symlink():
                continue
            if entry.is_dir():
                yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file() and entry.name.lower().endswith(self._suffixes):
                yield prefix + entry.name

    def _require(self, source: str) -> None:
        path = Path(source)
        if path.is_dir() or path.is_file():
            if source:
                return
            raise SequenceError("a source is an empty text; for the folder you are in write .")
        if path.exists():
            raise SequenceError(
                f"{path} is no file but a pipe or a device, which cannot be read twice: save it "
                "to a file and name that"
            )
        siblings = os.listdir(path.parent) if path.parent.is_dir() else []
        near = hint(path.name, siblings).partition("; allowed")[0].partition("? ")[0]
        meant = f"{near}?" if "mean" in near else f"; for a data set by name write {HUB}{path}"
        raise SequenceError(f"there is no file or folder {path}{meant}")

    def _nothing(self) -> str:
        found: Counter[str] = Counter()
        for source in self._sources:
            for _, _, names in os.walk(source):
                found.update(Path(name).suffix for name in names)
        common = ", ".join(suffix or "no suffix" for suffix, _ in found.most_common(3))
        there = f" (it holds {common}: name them with --suffix)" if common else ""
        return f"nothing to read in {', '.join(self._sources)}{there}"


def _passed_by(name: str) -> bool:
    """Whether a file or folder of this name is not read as part of a folder."""
    return name.startswith(".") or name in _PASSED_BY


def _stamp(path: Path) -> str:
    """When a file was changed, and what it holds: one that was swapped may have another's time."""
    return f"{path.stat().st_mtime_ns} {glimpse(path)}"


def _sayable(name: str) -> str:
    """A name as text that can be written: a file system's may be no Unicode."""
    return os.fsencode(name).decode("utf-8", "replace")
