"""Records of JSONL, JSON, Parquet and Arrow files: one at a time, or a few decoded together."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import hint
from lengthwise.sequences.errors import SequenceError, UnreadableError
from lengthwise.sequences.json_values import TooLongError, json_values
from lengthwise.sequences.source_file import SourceFile
from lengthwise.sequences.streams import opened, unpacked_name

NOT_UTF8 = "invalid UTF-8"
NOT_JSON = "a line that is not a JSON object"

_HELD = 6
"""Bytes of memory that a record takes at its worst, for each of its own."""
_LOOKED_AT = 64
"""Records of a JSON file that are looked at before it is said to lack a field."""
_ROWS = 64
"""Rows of a Parquet file that are decoded together, where they are short."""


@dataclass(frozen=True)
class Fields:
    """Where a table keeps its text and, if anywhere, its repository; and the memory allowed.

    encoding: of text files that are not UTF-8, as Python names it; None leaves them out.

    Raises SequenceError for an encoding that does not exist.
    """

    text: str = "text"
    repository: str | None = None
    memory: int = 1 << 30
    encoding: str | None = None

    def __post_init__(self) -> None:
        try:
            if self.encoding is not None:
                "".encode(self.encoding)
                codecs.getincrementaldecoder(self.encoding)
        except (LookupError, ValueError) as error:
            raise SequenceError(
                f"there is no encoding {self.encoding!r} of texts; give one such as cp1252, "
                "gb18030 or koi8-r"
            ) from error


@dataclass(frozen=True)
class Unfit:
    """Stands where a text should, saying why there is none."""

    why: str


Found = Iterator[tuple[int, int, Any, str | None]]
"""(number of the record, bytes, text or Unfit, repository) of each."""


def records_of(file: SourceFile, fields: Fields, skip: int) -> Found:
    """The records of a table after its first `skip`.

    Raises UnreadableError where the file, or what is left of it, cannot be read; SequenceError for
    a record too big for the memory.
    """
    return {"jsonl": _jsonl, "json": _json, "parquet": _parquet, "arrow": _arrow}[file.kind](
        file, fields, skip
    )


def check_fields(location: str, kind: str, fields: Fields) -> None:
    """Raises UnreadableError for a damaged table, SequenceError for one without the fields asked
    for.

    A JSON file lacks what none of its first records has: single ones may, and are skipped.
    """
    wanted = [name for name in (fields.text, fields.repository) if name is not None]
    if kind == "parquet":
        names = list(_open_parquet(location).schema_arrow.names)
    elif kind == "arrow":
        with _batches(location) as batches:
            names = list(batches.schema.names)
    else:
        names = _names_of(location, kind, fields, wanted)
        if not names:
            return
    for name in wanted:
        if name not in names:
            raise SequenceError(f"{location} has no field {name!r}{hint(name, names)}")


def holds_documents(location: str, fields: Fields) -> bool:
    """Whether a .json file is a table of documents, and not settings or data of another kind."""
    try:
        _, first = next(json_values(location, fields.memory // _HELD))
    except (StopIteration, UnreadableError):
        return False
    except TooLongError:
        return True
    return isinstance(first, str) or (isinstance(first, dict) and fields.text in first)


def _names_of(location: str, kind: str, fields: Fields, wanted: list[str]) -> list[str]:
    """The fields of the first records, up to the one with which all that are wanted were seen."""
    names: dict[str, None] = {}
    for value in islice(_objects(location, kind, fields), _LOOKED_AT):
        if isinstance(value, dict):
            names |= dict.fromkeys(value)
        elif isinstance(value, str):
            names[fields.text] = None
        if names.keys() >= set(wanted):
            break
    return list(names)


def _objects(location: str, kind: str, fields: Fields) -> Iterator[Any]:
    if kind == "json":
        return (value for _, value in _json_values(location, fields))
    return (_object(line) for line in _lines(location, fields))


def _jsonl(file: SourceFile, fields: Fields, skip: int) -> Found:
    for number, line in enumerate(_lines(file.location, fields)):
        if number >= skip and line.strip():
            yield number, len(line), *_fields_of(_object(line), fields)


def _json(file: SourceFile, fields: Fields, skip: int) -> Found:
    for number, (size, value) in enumerate(_json_values(file.location, fields)):
        if number >= skip:
            yield number, size, *_fields_of(value, fields)


def _json_values(location: str, fields: Fields) -> Iterator[tuple[int, Any]]:
    try:
        yield from json_values(location, fields.memory // _HELD)
    except TooLongError as error:
        where = f"{location}, document {error.number + 1}"
        raise SequenceError(_too_big(where, fields)) from error


def _lines(location: str, fields: Fields) -> Iterator[bytes]:
    limit = fields.memory // _HELD
    with opened(location) as lines:
        number = 0
        while line := lines.readline(limit):
            number += 1
            if len(line) == limit and not line.endswith(b"\n"):
                raise SequenceError(_too_big(f"{location}, line {number}", fields))
            yield line


def _fields_of(value: Any, fields: Fields) -> tuple[Any, str | None]:
    if isinstance(value, dict):
        return value.get(fields.text), _said(value.get(fields.repository))
    return (value if isinstance(value, str | Unfit) else Unfit(NOT_JSON)), None


def _object(line: bytes) -> dict[Any, Any] | Unfit:
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        return Unfit(NOT_UTF8)
    except (ValueError, RecursionError):  # the latter where lists are nested without end
        return Unfit(NOT_JSON)
    return value if isinstance(value, dict) else Unfit(NOT_JSON)


def _too_big(where: str, fields: Fields) -> str:
    return (
        f"{where}: a record of more than {fields.memory // _HELD >> 20:,} MiB does not fit into "
        f"the {fields.memory >> 20:,} MiB of --memory; give more, or store it as a text file, "
        "which is read in stretches"
    )


def _open_parquet(location: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if unpacked_name(location)[1]:
        raise UnreadableError(location, "a packed Parquet file: unpack it first")
    try:
        return pq.ParquetFile(location, buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        said = getattr(error, "strerror", None) or first_line(error)
        raise UnreadableError(location, f"not a whole Parquet file ({said})") from error


def _parquet(file: SourceFile, fields: Fields, skip: int) -> Found:
    import pyarrow as pa

    table = _open_parquet(file.location)
    number = 0
    try:
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if number + rows <= skip:
                number += rows
                continue
            most = _rows_at_once(table.metadata.row_group(group), fields)
            columns = [fields.text] + ([fields.repository] if fields.repository else [])
            for batch in table.iter_batches(most, row_groups=[group], columns=columns):
                yield from _rows_of(batch, number, file, fields, skip)
                number += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(file.location, f"damaged ({first_line(error)})") from error


def _arrow(file: SourceFile, fields: Fields, skip: int) -> Found:
    """What `datasets` saves to disk, and Feather: rows lie in the file as they are in memory."""
    number = 0
    with _batches(file.location) as batches:
        for batch in batches:
            size = batch.column(fields.text).nbytes
            most = _few(size, len(batch), fields)
            for first in range(0, len(batch), most):
                part = batch.slice(first, most)
                yield from _rows_of(part, number + first, file, fields, skip)
            number += len(batch)


class _Batches:
    """Batches of an Arrow file of either form, the stream that `datasets` writes or Feather."""

    def __init__(self, source: Any) -> None:
        import pyarrow as pa

        stream = source.read_buffer(6).to_pybytes() != b"ARROW1"
        source.seek(0)
        self._stream = stream
        self._reader = pa.ipc.open_stream(source) if stream else pa.ipc.open_file(source)
        self.schema = self._reader.schema

    def __iter__(self) -> Iterator[Any]:
        if self._stream:
            yield from self._reader
            return
        for number in range(self._reader.num_record_batches):
            yield self._reader.get_batch(number)


@contextmanager
def _batches(location: str) -> Iterator[_Batches]:
    import pyarrow as pa

    if unpacked_name(location)[1]:
        raise UnreadableError(location, "a packed Arrow file: unpack it first")
    try:
        with pa.memory_map(location) as source:
            yield _Batches(source)
    except (pa.ArrowException, OSError) as error:
        said = getattr(error, "strerror", None) or first_line(error)
        raise UnreadableError(location, f"not a whole Arrow file ({said})") from error


def _rows_of(batch: Any, number: int, file: SourceFile, fields: Fields, skip: int) -> Found:
    """The rows of a batch whose first one has the number given."""
    text = _undecoded(batch.column(fields.text))
    names: Any = [None] * len(text)
    if fields.repository:
        names = _undecoded(batch.column(fields.repository))
    for at, (value, name) in enumerate(zip(text, names, strict=True), number):
        if at < skip:
            continue
        found = value.as_py()
        size = size_of(found)
        if size > fields.memory // _HELD:
            raise SequenceError(_too_big(f"{file.location}, row {at + 1}", fields))
        yield at, size, found, _said(None if name is None else name.as_py())


def _rows_at_once(group: Any, fields: Fields) -> int:
    """Rows of a row group that are decoded together: fewer where texts are long."""
    columns = [group.column(number) for number in range(group.num_columns)]
    size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema == fields.text)
    return _few(size, group.num_rows, fields)


def _few(size: int, rows: int, fields: Fields) -> int:
    fit: int = (fields.memory >> 6) * rows // (size + 1)
    return max(1, min(_ROWS, fit))


def _undecoded(column: Any) -> Any:
    """The column with its strings as bytes: one that is not UTF-8 must not stop the others."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return column


def size_of(text: Any) -> int:
    """Bytes or characters of a text, 0 of what is none."""
    return len(text) if isinstance(text, bytes | str) else 0


def _said(repository: Any) -> str | None:
    """What a record says of its repository, as text."""
    if isinstance(repository, bytes):
        return repository.decode("utf-8", "replace")
    return None if repository is None else str(repository)
