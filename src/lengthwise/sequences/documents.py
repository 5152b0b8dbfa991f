"""Where documents come from: text, code, PDF, HTML, JSON, Parquet and Arrow files, folders of
them, and `datasets`.

Nothing is held but the record being read, and the order is that of sorted names, so a run that was
stopped finds its place again by counting.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lengthwise._utils.suggestions import closest
from lengthwise.sequences import records
from lengthwise.sequences.errors import SequenceError, UnreadableError
from lengthwise.sequences.files import glimpse
from lengthwise.sequences.folders import Passed, Walk, passed_by
from lengthwise.sequences.records import Fields, Record
from lengthwise.sequences.source_file import SourceFile, SourceKind
from lengthwise.sequences.streams import unpacked_name

TEXT = (".txt", ".text", ".md", ".markdown", ".rst")
CODE = (".py", ".pyi", ".js", ".jsx", ".ts", ".tsx", ".java", ".c", ".h", ".cc", ".cpp", ".hpp",
        ".cs", ".go", ".rs", ".rb", ".php", ".swift", ".kt", ".scala", ".jl", ".lua", ".pl", ".r",
        ".sh", ".sql", ".hs", ".ml", ".ex", ".exs", ".clj", ".zig")  # fmt: skip
DOCUMENTS = (".pdf", ".html", ".htm", ".xhtml", ".docx")
TABLES: dict[str, SourceKind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
                           ".parquet": "parquet", ".arrow": "arrow"}  # fmt: skip
SUFFIXES = (*TEXT, *CODE, *DOCUMENTS, *TABLES)
HUB = "datasets:"
_WITHOUT_FIELDS: set[SourceKind] = {"text", "document", "folder"}


@dataclass(frozen=True)
class Survey:
    """What sources amount to before any text is read; `fingerprint` changes when a file does, and
    when more or less memory leaves out other ones.

    passed: files of folders that are not read, by why.
    """

    files: int
    bytes: int
    fingerprint: str
    passed: dict[str, int] = field(default_factory=dict)


class Sources:
    """The documents of several sources, one after another.

    sources: paths of files or folders, or `datasets:NAME[,CONFIG][@SPLIT]`.
    suffixes: which files of a folder are read (default: SUFFIXES; of .json those that hold
        documents). A file named itself is always read, as text where its suffix says nothing else.
    strict: a file that cannot be read stops the build; otherwise it is skipped and counted.

    Raises SequenceError for a path that does not exist, a folder with nothing to read, and what is
    asked for that none of the sources has.
    """

    def __init__(
        self, sources: tuple[str, ...], fields: Fields, suffixes: tuple[str, ...] = (),
        strict: bool = False,
    ) -> None:  # fmt: skip
        if not sources:
            raise SequenceError("no source given: name files, folders or datasets:NAME")
        self._sources, self._fields, self._strict = sources, fields, strict
        self._suffixes = tuple(f".{s.removeprefix('.').lower()}" for s in suffixes) or SUFFIXES
        for source in sources:
            if not source.startswith(HUB):
                self._require(source)
        if suffixes and not any(Path(source).is_dir() for source in sources):
            raise SequenceError(
                f"--suffix {suffixes[0]} chooses files of a folder, and no folder is given: leave "
                "it out"
            )

    def hold(self, path: Path) -> bool:
        """Whether something written at `path` would be read as one of the documents."""
        own = path.resolve()
        folders = [Path(s).resolve() for s in self._sources if not s.startswith(HUB)]
        return any(
            not any(map(passed_by, own.relative_to(folder).parts))
            for folder in folders
            if folder.is_dir() and own.is_relative_to(folder)
        )

    def files(self, passed: Passed | None = None) -> Iterator[SourceFile]:
        """Every file in the order it is read. passed: is told of those that are not."""
        passed = Passed() if passed is None else passed
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
                for relative, why in Walk(self._wanted, passed).of(path):
                    top, _, rest = relative.partition("/")
                    repository = f"{root}/{top}" if rest else root
                    yield self._file(path / relative, f"{root}/{relative}", repository, why)
            else:
                yield self._file(path, path.name, path.stem)

    def survey(self) -> Survey:
        """Counts and sizes; opens each file, so that a damaged one stops nothing later.

        Raises SequenceError naming the file or folder that is wrong.
        """
        files, size, seen, passed = 0, 0, hashlib.sha256(), Passed()
        kinds: set[SourceKind] = set()
        for file in self.files(passed):
            kinds.add(file.kind)
            try:
                records.check(file, self._fields)
                files, size = files + 1, size + file.size
                stamp = "" if file.kind == "datasets" else _stamp(Path(file.location))
                seen.update(f"{file.name}\0{file.kind}\0{file.size}\0{stamp}\n".encode())
                if file.kind == "document" and records.is_too_big(file, self._fields):
                    seen.update(f"{records.TOO_BIG}\n".encode())
            except UnreadableError as error:
                if self._strict:
                    raise
                files += 1
                seen.update(f"{file.name}\0{error.why}\n".encode())
            if file.kind != "text":
                seen.update(f"{self._fields.text}\0{self._fields.repository}\n".encode())
            elif self._fields.encoding is not None:
                seen.update(f"{self._fields.encoding}\n".encode())
        if not files:
            raise SequenceError(f"nothing to read in {', '.join(self._sources)}{passed.advice()}")
        self._check_use(kinds)
        return Survey(files, size, seen.hexdigest(), passed.counts())

    def read(self, file: int = 0, record: int = 0) -> Iterator[tuple[int, Record]]:
        """(number of the file, what was read), from the given record of the given file on."""
        for number, source in enumerate(self.files()):
            if number >= file:
                skip = record if number == file else 0
                for found in records.read(source, self._fields, skip, self._strict):
                    yield number, found

    def _check_use(self, kinds: set[SourceKind]) -> None:
        """Refuses fields and an encoding where no source has any."""
        asked, usual = self._fields, Fields()
        named = {"--text-field": (asked.text, usual.text),
                 "--repository-field": (asked.repository, usual.repository)}  # fmt: skip
        for option, (found, default) in named.items():
            if found != default and not kinds - _WITHOUT_FIELDS:
                raise SequenceError(
                    f"{option} {found}: nothing that is given has fields; JSON, JSONL, Parquet, "
                    "Arrow and datasets:NAME have. Leave it out, or give one of these"
                )
        if asked.encoding is not None and "text" not in kinds:
            raise SequenceError(
                f"--encoding {asked.encoding} is that of text files, and none is given: leave it "
                "out"
            )

    def _file(self, path: Path, name: str, repository: str, why: str = "") -> SourceFile:
        inner = Path(unpacked_name(path.name)[0]).suffix.lower()
        kind: SourceKind = TABLES.get(inner, "document" if inner in DOCUMENTS else "text")
        if why:
            kind = "folder"
        return SourceFile(str(path), _sayable(name), _sayable(repository), kind, why)

    def _wanted(self, path: Path) -> bool:
        """Whether a file of a folder is read."""
        inner, packed = unpacked_name(path.name.lower())
        suffix = Path(inner).suffix
        if packed and (suffix in DOCUMENTS or TABLES.get(suffix) in ("parquet", "arrow")):
            return False
        if not inner.endswith(self._suffixes) and not path.name.lower().endswith(self._suffixes):
            return False
        return TABLES.get(suffix) != "json" or records.holds_documents(str(path), self._fields)

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
        near = closest(path.name, siblings)
        meant = (
            f"; did you mean {str(path.with_name(near))!r}?" if near
            else f"; for a data set by name write {HUB}{path}"
        )  # fmt: skip
        raise SequenceError(f"there is no file or folder {path}{meant}")


def _stamp(path: Path) -> str:
    """When a file was changed, and what it holds: one that was swapped may have another's time."""
    return f"{path.stat().st_mtime_ns} {glimpse(path)}"


def _sayable(name: str) -> str:
    """A name as text that can be written: a file system's may be no Unicode."""
    return os.fsencode(name).decode("utf-8", "replace")
