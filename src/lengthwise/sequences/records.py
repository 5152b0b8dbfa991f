"""Reading one file into documents, and saying of each that cannot be one why not."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
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
_LOOKED_AT = 64
"""Lines of a JSONL file that are looked at before it is said to lack a field."""
_ROWS = 64
"""Rows of a Parquet file that are decoded together, where they are short."""


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

    A JSONL file lacks what none of its first lines has: single lines may, and are skipped.
    """
    wanted = [name for name in (fields.text, fields.repository) if name is not None]
    if kind == "parquet":
        names = _open_parquet(location).schema_arrow.names
    elif kind == "jsonl":
        names = _names_of(location, fields, wanted)
        if not names:
            return
    else:
        return
    for name in wanted:
        if name not in names:
            raise SequenceError(f"{location} has no field {name!r}{hint(name, names)}")


def _names_of(location: str, fields: Fields, wanted: list[str]) -> list[str]:
    """The fields of the first lines, up to the one with which all that are wanted were seen."""
    names: dict[str, None] = {}
    for line in islice(_lines(location, fields), _LOOKED_AT):
        value = _object(line)
        if not isinstance(value, _Unfit):
            names |= dict.fromkeys(value)
        if names.keys() >= set(wanted):
            break
    return list(names)


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
        why = EMPTY
        for block in _blocks(path):
            if "\0" in block:
                return Record(file.name, file.repository, 0, size, skipped=BINARY)
            if block and not block.isspace():
                why = ""
    except UnicodeDecodeError:
        return Record(file.name, file.repository, 0, size, skipped=NOT_UTF8)
    except OSError as error:
        raise SequenceError(f"{path} cannot be read: {error.strerror}") from error
    return Record(file.name, file.repository, 0, size, _blocks(path), why)


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
    value = _object(line)
    if isinstance(value, _Unfit):
        return value, None
    return value.get(fields.text), _said(value.get(fields.repository))


def _object(line: bytes) -> dict[Any, Any] | _Unfit:
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        return _Unfit(NOT_UTF8)
    except (ValueError, RecursionError):  # the latter where lists are nested without end
        return _Unfit(NOT_JSON)
    return value if isinstance(value, dict) else _Unfit(NOT_JSON)


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
            most = _rows_at_once(table.metadata.row_group(group), fields)
            for batch in table.iter_batches(most, row_groups=[group], columns=columns):
                text = _undecoded(batch.column(fields.text))
                names: Any = [None] * len(text)
                if fields.repository:
                    names = _undecoded(batch.column(fields.repository))
                for value, name in zip(text, names, strict=True):
                    if number >= skip:
                        found = value.as_py()
                        if (size := _size(found)) > fields.memory // _HELD:
                            where = f"{file.location}, row {number + 1}"
                            raise SequenceError(_too_big(where, fields))
                        repository = None if name is None else name.as_py()
                        yield number, size, found, _said(repository)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise SequenceError(f"{file.location} is damaged: {_first_line(error)}") from error


def _rows_at_once(group: Any, fields: Fields) -> int:
    """Rows of a row group that are decoded together: fewer where texts are long."""
    columns = [group.column(number) for number in range(group.num_columns)]
    size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema == fields.text)
    fit: int = (fields.memory >> 6) * group.num_rows // (size + 1)
    return max(1, min(_ROWS, fit))


def _undecoded(column: Any) -> Any:
    """The column with its strings as bytes: one that is not UTF-8 must not stop the others."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return column


def _size(text: Any) -> int:
    """Bytes or characters of a text, 0 of what is none."""
    return len(text) if isinstance(text, bytes | str) else 0


def _said(repository: Any) -> str | None:
    """What a record says of its repository, as text."""
    if isinstance(repository, bytes):
        return repository.decode("utf-8", "replace")
    return None if repository is None else str(repository)


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
    for number, row in enumerate(_streamed(rows.skip(skip) if skip else rows, name), skip):
        if number == skip and fields.text not in row:
            raise SequenceError(f"{name} has no field {fields.text!r}{hint(fields.text, row)}")
        text = row.get(fields.text)
        yield number, _size(text), text, _said(row.get(fields.repository))


def _streamed(rows: Iterable[dict[Any, Any]], name: str) -> Iterator[dict[Any, Any]]:
    try:
        yield from rows
    except Exception as error:  # a broken connection, a damaged file: as its loader says it
        raise SequenceError(
            f"datasets stopped in the midst of {name!r} ({_first_line(error)}); run the same "
            "command again to go on"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
