"""Reading one file into documents, and saying of each that cannot be one why not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise.errors import DocumentError
from lengthwise.sequences import hub_rows
from lengthwise.sequences.errors import UnreadableError
from lengthwise.sequences.source_file import SourceFile
from lengthwise.sequences.streams import BLOCK, blocks, opened, unpacked_name
from lengthwise.sequences.tables import (
    NOT_JSON,
    NOT_UTF8,
    Fields,
    Unfit,
    check_fields,
    holds_documents,
    records_of,
)

__all__ = ["NOT_JSON", "NOT_UTF8", "Fields", "Record", "check", "holds_documents", "read"]

EMPTY = "empty"
BINARY = "binary (holds a zero byte)"
NO_TEXT = "no text in its field"
SURROGATE = "not Unicode text (a lone surrogate)"
UNREADABLE = "cannot be read"
LOCKED = "encrypted"
WITHOUT_TEXT = "no text in it (a scan?)"
TOO_BIG = "too big for --memory"

_UTF8 = "utf-8-sig"
_LAST = 1 << 62
"""Number of the record that says of a file that it cannot be read any further."""


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


def read(file: SourceFile, fields: Fields, skip: int, strict: bool = False) -> Iterator[Record]:
    """The records of a file after its first `skip`.

    Where it cannot be read (on), its last one says so; strict: UnreadableError is raised instead.
    """
    if skip > _LAST:
        return
    try:
        if file.kind in ("text", "document", "folder"):
            if not skip:
                yield _one(file, fields)
            return
        source = hub_rows.rows if file.kind == "datasets" else records_of
        packed = unpacked_name(file.location)[1] is not None
        for number, size, text, repository in source(file, fields, skip):
            name = f"{file.name}:{number + 1}"
            text, why = _decoded(text)
            # Of a packed file only its size as a whole is known.
            took = (0 if number else file.size) if packed else size
            yield Record(name, repository or file.repository, number, took, (text,), why)
    except UnreadableError as error:
        if strict:
            raise
        why = f"{UNREADABLE} ({error.why})"
        yield Record(file.name, file.repository, _LAST, 0, skipped=why)


def check(file: SourceFile, fields: Fields) -> None:
    """Raises UnreadableError where a file is damaged or may not be read, SequenceError where a
    table lacks the fields asked for or a data set by name does not exist."""
    if file.kind == "folder":
        raise UnreadableError(file.location, file.why)
    if file.kind == "datasets":
        hub_rows.require(file.location)
        return
    with opened(file.location) as contents:
        contents.read(1)
    if file.kind not in ("text", "document"):
        check_fields(file.location, file.kind, fields)


def is_too_big(file: SourceFile, fields: Fields) -> bool:
    """Whether a PDF or its like would take more than the memory, so that it is skipped."""
    return file.size > fields.memory // 6


def _one(file: SourceFile, fields: Fields) -> Record:
    """A file that is one document."""
    if file.kind == "folder":
        raise UnreadableError(file.location, file.why)
    if file.kind == "document":
        return _document(file, fields, "")
    found = _text(file, _UTF8)
    if fields.encoding is not None and (found is None or found.skipped == BINARY):
        found = _text(file, fields.encoding)
        if found is None:
            why = f"neither UTF-8 nor {fields.encoding}"
            return Record(file.name, file.repository, 0, file.size, skipped=why)
    return found or _document(file, fields, NOT_UTF8)


def _document(file: SourceFile, fields: Fields, otherwise: str) -> Record:
    """A PDF, a page of HTML or text in another encoding, as all other verbs read them.

    otherwise: why it is none where they cannot read it; "" for their own reason.
    """
    record = Record(file.name, file.repository, 0, file.size, skipped=otherwise)
    if unpacked_name(file.location)[1]:
        if otherwise:
            return record
        raise UnreadableError(file.location, "packed: unpack it first")
    if is_too_big(file, fields):
        return Record(file.name, file.repository, 0, file.size, skipped=otherwise or TOO_BIG)
    from lengthwise.documents.files import read_document

    try:
        text, why = _decoded(read_document(file.location).text)
    except DocumentError as error:
        text, why = "", _reason(file, error, otherwise)
    return Record(file.name, file.repository, 0, file.size, (text,), why)


def _reason(file: SourceFile, error: DocumentError, otherwise: str) -> str:
    """The kind of what is wrong with a document; raises UnreadableError for a damaged one."""
    said = str(error)
    if otherwise and ("binary" in said or "zero byte" in said):
        return BINARY
    if otherwise:
        likely = re.search(r"`iconv -f (\S+)", said)
        return otherwise + (f", probably {likely[1]} (--encoding {likely[1]})" if likely else "")
    if "pip install" not in said:
        for kind, words in ((LOCKED, ("password", "encrypt")), (WITHOUT_TEXT, ("no text",)),
                            (EMPTY, ("empty",))):  # fmt: skip
            if any(word in said for word in words):
                return kind
    raise UnreadableError(file.location, said.replace(Path(file.location).name, "it", 1))


def _decoded(text: Any) -> tuple[str, str]:
    """The text of a record and why it is none."""
    if isinstance(text, Unfit):
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


def _text(file: SourceFile, encoding: str) -> Record | None:
    """A text file, whole or in stretches; None where it is not in the encoding."""
    size = file.size
    try:
        if size <= BLOCK and unpacked_name(file.location)[1] is None:
            with opened(file.location) as contents:
                text, why = _decoded(contents.read().decode(encoding))
            why = BINARY if "\0" in text else why
            return Record(file.name, file.repository, 0, size, () if why else (text,), why)
        # Checked before any of it is tokenised: half a document must not get into the store.
        why = EMPTY
        for block in blocks(file.location, encoding):
            if "\0" in block:
                return Record(file.name, file.repository, 0, size, skipped=BINARY)
            if block and not block.isspace():
                why = ""
    except UnicodeError:
        return None
    return Record(file.name, file.repository, 0, size, blocks(file.location, encoding), why)
