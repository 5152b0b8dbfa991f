"""Reading the document a person wants to work with, whole and unchanged, or saying why not.

A measurement on text that was silently cut, guessed at or mis-decoded is worse than none, so every
doubt here is a `DocumentError` of one line. Nothing is ever cut; the caller decides on length.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from lengthwise._utils.suggestions import closest
from lengthwise.documents.document import Document, DocumentKind
from lengthwise.documents.formats import KIND_BY_SUFFIX, sniff, text_of
from lengthwise.errors import DocumentError

_LONGEST_PATH = 4096


def read_document(
    source: str | os.PathLike[str] | None = None, encoding: str | None = None
) -> Document:
    """The document in one file, whole.

    Args:
        source: the path of a text, Markdown, HTML, PDF or Word (.docx) file. A file with another
            suffix is recognised by its first bytes. "-": standard input. None: the Python language
            reference that ships inside Python. Text itself goes through `Document.from_text`,
            several files and folders through `read`.
        encoding: of plain text and HTML, see `decode`.

    Returns:
        The document, under the name of its file.

    Raises:
        DocumentError: for a missing, unreadable, binary, undecodable, encrypted or empty file.
    """
    if source is None:
        return _python_reference()
    if source == "-":
        return document_of(sys.stdin.buffer.read(), "standard input", None, encoding)
    path = _existing_file(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"cannot read {path.name}: {error.strerror}") from error
    return document_of(data, path.name, KIND_BY_SUFFIX.get(path.suffix.lower()), encoding)


def document_of(
    data: bytes, name: str, kind: DocumentKind | None = None, encoding: str | None = None
) -> Document:
    """The document in the bytes of a file.

    Args:
        data: the bytes.
        name: what to call it.
        kind: None finds out by the first bytes.
        encoding: of plain text and HTML, see `decode`.

    Returns:
        The document.

    Raises:
        DocumentError: for bytes without text in them.
    """
    kind = kind or sniff(data)
    return Document(name, text_of(data, name, kind, encoding), kind)


def _python_reference() -> Document:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DocumentError(
            "this Python was installed without pydoc_data, the default document: name a file"
        ) from error
    # Every topic opens with its own underlined title, so joining them keeps the titles.
    text = "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"
    version = ".".join(platform.python_version_tuple()[:2])
    return Document(f"Python {version} language reference", text, "reference")


def _existing_file(source: str | os.PathLike[str]) -> Path:
    name = os.fspath(source)
    if not name:
        raise DocumentError("the document's name is empty: give a path, or - for standard input")
    if "\n" in name or "\0" in name or len(name) > _LONGEST_PATH:
        raise DocumentError(
            f"{name[:32]!r}... is text, not a path: pass Document.from_text(text) instead"
        )
    if name.startswith(("http://", "https://")):
        raise DocumentError(f"{name} is an address: download it and give the file")
    path = Path(os.path.expanduser(name))
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise DocumentError(f"{name} is a folder: name one file in it{_example_in(path)}")
        if path.exists():
            return path  # a pipe or a device: readable like any file
        raise DocumentError(f"there is no file {name}{_nearest_to(path)}")
    except OSError as error:
        raise DocumentError(f"cannot open {name}: {error.strerror}") from error


def _example_in(folder: Path) -> str:
    readable = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in KIND_BY_SUFFIX)
    return f", such as {readable[0]}" if readable else ""


def _nearest_to(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder}"
    near = closest(path.name, (each.name for each in folder.iterdir()))
    return f"; did you mean {folder / near}?" if near else f" in {folder.resolve().name}"


__all__ = ["Document", "document_of", "read_document"]
