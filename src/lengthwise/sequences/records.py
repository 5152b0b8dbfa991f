"""Reading one file into documents, and saying of each that cannot be one why not."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.sequences.errors import SequenceError, hint

if TYPE_CHECKING:
    from lengthwise.sequences.documents import SourceFile

EMPTY = "empty"
NOT_UTF8 = "invalid UTF-8"
BINARY = "binary (holds a zero byte)"
NOT_JSON = "a line that is not a JSON object"
NO_TEXT = "no text in its field"
SURROGATE = "not Unicode text (a lone surrogate)"

BLOCK = 1 << 20
"""Bytes of a text file read at once."""
_HELD = 6
"""Bytes of memory that a record of JSON or Parquet takes at its worst, for each of its own."""


@dataclass(frozen=True)
class Fields:
    """Where a table keeps its text and, if anywhere, its repository; and the memory allowed."""

    text: str = "text"
    repository: str | None = None
    memory: int = 1 << 30


@dataclass(frozen=True)
class Record:
    """What one record of a source is: a document, or the reason why it is none.

    blocks: the text in stretches, to be read once.
    skipped: why there is none; "" for a document.
    number: which record of its file this is; bytes: what it took of the file.
    """

    name: str
    repository: str
    number: int
    bytes: int
    blocks: Iterable[str] = ()
    skipped: str = ""


@dataclass(frozen=True)
class _Unfit:
    """Stands where a text should, saying why there is none."""

    why: str


def read(file: SourceFile, fields: Fields, skip: int) -> Iterator[Record]:
    """The records of a file after its first `skip`. Raises SequenceError naming the file."""
    if file.kind == "text":
        yield from () if skip else (_text(file),)
        return
    source = {"jsonl": _jsonl, "parquet": _parquet, "datasets": _datasets}[file.kind]
    for number, size, text, repository in source(file, fields, skip):
        name = f"{file.name}:{number + 1}"
        text, why = _decoded(text)
        yield Record(name, repository or file.repository, number, size, (text,), why)


def check(location: str, kind: str, fields: Fields) -> None:
    """Raises SequenceError where a table is damaged or lacks the fields asked for.

    Of a JSONL file only the first line is looked at: later ones may lack a field, and are skipped.
    """
    if kind == "parquet":
        names = _open_parquet(location).schema_arrow.names
    elif kind == "jsonl":
        first = next(_lines(location, fields), b"{")
        try:
            names = list(json.loads(first))
        except ValueError:
            return
    else:
        return
    for wanted in (fields.text, fields.repository):
        if wanted is not None and wanted not in names:
            raise SequenceError(f"{location} has no field {wanted!r}{hint(wanted, names)}")


def _decoded(text: Any) -> tuple[str, str]:
    """The text of a record and why it is none."""
    if isinstance(text, _Unfit):
        return "", text.why
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            return "", NOT_UTF8
    if not isinstance(text, str):
        return "", NO_TEXT
    if not text or text.isspace():
        return "", EMPTY
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "", SURROGATE
    return text, ""


def _text(file: SourceFile) -> Record:
    path, size = Path(file.location), file.size
    try:
        if size <= BLOCK:
            data = path.read_bytes()
            text, why = _decoded(data.removeprefix(codecs.BOM_UTF8))
            return Record(file.name, file.repository, 0, size, (text,),
                          BINARY if b"\0" in data else why)  # fmt: skip
        # Checked before any of it is tokenised: half a document must not get into the store.
        for block in _blocks(path):
            if "\0" in block:
                return Record(file.name, file.repository, 0, size, skipped=BINARY)
    except UnicodeDecodeError:
        return Record(file.name, file.repository, 0, size, skipped=NOT_UTF8)
    except OSError as error:
        raise SequenceError(f"{path} cannot be read: {error.strerror}") from error
    return Record(file.name, file.repository, 0, size, _blocks(path))


def _blocks(path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield decoder.decode(block)
        yield decoder.decode(b"", final=True)


Found = Iterator[tuple[int, int, Any, str | None]]


def _jsonl(file: SourceFile, fields: Fields, skip: int) -> Found:
    for number, line in enumerate(_lines(file.location, fields)):
        if number >= skip and line.strip():
            text, repository = _fields_of(line, fields)
            yield number, len(line), text, repository


def _lines(location: str, fields: Fields) -> Iterator[bytes]:
    limit = fields.memory // _HELD
    try:
        with open(location, "rb") as lines:
            number = 0
            while line := lines.readline(limit):
                number += 1
                if len(line) == limit and not line.endswith(b"\n"):
                    raise SequenceError(_too_big(f"{location}, line {number}", fields))
                yield line
    except OSError as error:
        raise SequenceError(f"{location} cannot be read: {error.strerror}") from error


def _fields_of(line: bytes, fields: Fields) -> tuple[Any, str | None]:
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        return _Unfit(NOT_UTF8), None
    except ValueError:
        return _Unfit(NOT_JSON), None
    if not isinstance(value, dict):
        return _Unfit(NOT_JSON), None
    return value.get(fields.text), _repository(value, fields)


def _repository(value: dict[str, Any], fields: Fields) -> str | None:
    found = value.get(fields.repository) if fields.repository else None
    return None if found is None else str(found)


def _too_big(where: str, fields: Fields) -> str:
    return (
        f"{where}: a record of more than {fields.memory // _HELD >> 20:,} MiB does not fit into "
        f"the {fields.memory >> 20:,} MiB of --memory; give more, or store it as a text file, "
        "which is read in stretches"
    )


def _open_parquet(location: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(location, buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise SequenceError(
            f"{location} is not a whole Parquet file ({_first_line(error)}): was it cut short?"
        ) from error


def _parquet(file: SourceFile, fields: Fields, skip: int) -> Found:
    import pyarrow as pa

    table = _open_parquet(file.location)
    columns = [fields.text] + ([fields.repository] if fields.repository else [])
    number = 0
    try:
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if number + rows <= skip:
                number += rows
                continue
            for batch in table.iter_batches(64, row_groups=[group], columns=columns):
                text = batch.column(fields.text)
                if pa.types.is_string(text.type) or pa.types.is_large_string(text.type):
                    text = text.cast(pa.large_binary())
                names = batch.column(fields.repository) if fields.repository else [None] * len(text)
                for value, name in zip(text, names, strict=True):
                    if number >= skip:
                        found = value.as_py()
                        repository = None if name is None else name.as_py()
                        yield number, len(found or b""), found, repository
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise SequenceError(f"{file.location} is damaged: {_first_line(error)}") from error


def _datasets(file: SourceFile, fields: Fields, skip: int) -> Found:
    try:
        import datasets
    except ImportError as error:
        raise SequenceError(f"reading {file.name} needs datasets: pip install datasets") from error
    name, _, split = file.location.partition("@")
    name, _, config = name.partition(",")
    try:
        rows = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
    except Exception as error:  # its loaders raise whatever went wrong in them
        raise SequenceError(f"datasets cannot open {name!r}: {_first_line(error)}") from error
    for number, row in enumerate(rows.skip(skip) if skip else rows, skip):
        if number == skip and fields.text not in row:
            raise SequenceError(f"{name} has no field {fields.text!r}{hint(fields.text, row)}")
        text = row.get(fields.text)
        yield number, len(text or ""), text, _repository(row, fields)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
