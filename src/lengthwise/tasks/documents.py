"""Reading the document a person wants to work with, whole and unchanged, or saying why not.

A measurement on text that was silently cut, guessed at or mis-decoded is worse than none, so every
doubt here is a `DocumentError` of one line. Nothing is ever cut; the caller decides on length.
"""

from __future__ import annotations

import codecs
import difflib
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lengthwise.errors import DocumentError

Kind = Literal["text", "markdown", "html", "pdf", "reference"]

_KIND_BY_SUFFIX: dict[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}
_WIDE_BOMS = {
    codecs.BOM_UTF32_LE: "UTF-32LE",
    codecs.BOM_UTF32_BE: "UTF-32BE",
    codecs.BOM_UTF16_LE: "UTF-16LE",
    codecs.BOM_UTF16_BE: "UTF-16BE",
}
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it came from.

    name: what to call it in a report (a file name, never a whole path).
    text: all of it.
    kind: the format it was read from; "reference" is Python's own language reference.

    Raises DocumentError when the text is empty or only white space.
    """

    name: str
    text: str
    kind: Kind = "text"

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DocumentError(f"{self.name} is empty: give a document with text in it")

    @classmethod
    def from_text(cls, text: str, name: str = "text") -> Document:
        """A document from text already at hand. Raises DocumentError when it is empty."""
        return cls(name=name, text=text)


def read_document(source: str | os.PathLike[str] | None = None) -> Document:
    """The document at `source`, whole.

    source: None for the Python language reference that ships inside Python, "-" for standard
        input, otherwise the path of a text, Markdown, HTML or PDF file. A file with another suffix
        is recognised by its first bytes. Text itself goes through `Document.from_text`.

    Raises DocumentError for a missing, unreadable, binary, undecodable, encrypted or empty file.
    """
    if source is None:
        return _python_reference()
    if source == "-":
        return _decode(sys.stdin.buffer.read(), "standard input", None)
    path = _existing_file(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"cannot read {path.name}: {error.strerror}") from error
    return _decode(data, path.name, _KIND_BY_SUFFIX.get(path.suffix.lower()))


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
            raise DocumentError(f"{name} is a folder: name one file{_example_in(path)}")
        if path.exists():
            return path  # a pipe or a device: readable like any file
        raise DocumentError(f"there is no file {name}{_nearest_to(path)}")
    except OSError as error:
        raise DocumentError(f"cannot open {name}: {error.strerror}") from error


def _example_in(folder: Path) -> str:
    readable = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _KIND_BY_SUFFIX)
    return f", such as {readable[0]}" if readable else ""


def _nearest_to(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder}"
    names = {p.name.lower(): p.name for p in folder.iterdir()}
    close = difflib.get_close_matches(path.name.lower(), names, n=1, cutoff=0.5)
    return (
        f"; did you mean {folder / names[close[0]]}?" if close else f" in {folder.resolve().name}"
    )


def _decode(data: bytes, name: str, kind: Kind | None) -> Document:
    if kind is None:
        kind = _sniff(data)
    if kind == "pdf" and b"%PDF-" not in data[:1024]:
        begins = f"it begins with {data[:4]!r}" if data.strip(b"\0") else "it holds no data"
        raise DocumentError(f"{name} is no PDF, whatever its name ({begins}, not with b'%PDF-')")
    if kind == "pdf":
        return Document(name, _pdf_text(data, name), kind)
    if kind == "html":
        return Document(name, _html_text(data, name), kind)
    return Document(name, _strict_text(data, name, "utf-8"), kind)


def _sniff(data: bytes) -> Kind:
    start = data[:1024].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith(b"%pdf-"):
        return "pdf"
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    return "text"


def _strict_text(data: bytes, name: str, encoding: str) -> str:
    """`data` decoded with no replacement characters, or the reason why it cannot be."""
    for bom, wide in _WIDE_BOMS.items():
        if data.startswith(bom):
            raise DocumentError(f"{name} is {wide}, not UTF-8: {_recode(name, wide)}")
    if (zero := data.find(b"\0")) >= 0:
        raise DocumentError(
            f"{name} is a binary file (zero byte at offset {zero}): "
            "give plain text, Markdown, HTML or PDF"
        )
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode(encoding)
    except LookupError as error:
        raise DocumentError(f"{name} declares an unknown encoding, {encoding!r}") from error
    except UnicodeDecodeError as error:
        offset = error.start + (3 if data.startswith(codecs.BOM_UTF8) else 0)
        raise DocumentError(
            f"{name} is not {encoding.upper()}: byte 0x{data[offset]:02x} at offset {offset}; "
            f"{_likely_encoding(data, name)}"
        ) from error
    return text.replace("\r\n", "\n")


def _likely_encoding(data: bytes, name: str) -> str:
    """How to go on with bytes that are not UTF-8: recode them, or give up on a binary file."""
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in data[:65536])
    if controls * 100 > len(data[:65536]):
        return "it looks binary: give plain text, Markdown, HTML or PDF"
    for encoding in ("cp1252", "latin-1"):
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return f"if it is {encoding.upper()}, {_recode(name, encoding.upper())}"
    return "convert it to UTF-8 first"


def _recode(name: str, encoding: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8 {name}`"


def _pdf_text(data: bytes, name: str) -> str:
    import io

    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise DocumentError(f"reading {name} needs pypdf: pip install pypdf") from error
    try:
        reader = PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and not reader.decrypt("")
        pages = [] if locked else [page.extract_text() for page in reader.pages]
    # A damaged PDF surfaces as almost any exception type from inside the parser.
    except Exception as error:
        raise DocumentError(f"{name} is not a readable PDF: {error}".splitlines()[0]) from error
    if locked:
        raise DocumentError(f"{name} needs a password: save a copy without one")
    text = "\n\n".join(page.strip() for page in pages)
    if not text.strip():
        raise DocumentError(
            f"{name} has no text in its {len(pages)} pages (a scan?): run OCR on it first"
        )
    return text + "\n"


def _html_text(data: bytes, name: str) -> str:
    try:
        from bs4.dammit import EncodingDetector
    except ImportError as error:
        raise DocumentError(
            f"reading {name} needs beautifulsoup4: pip install beautifulsoup4"
        ) from error
    from lengthwise.tasks.html_text import text_of_html

    declared = (EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8").lower()
    # Browsers read pages that declare Latin-1 as its superset; so do we.
    encoding = "cp1252" if declared in ("iso-8859-1", "latin-1", "latin1") else declared
    text = text_of_html(_strict_text(data, name, encoding))
    if not text.strip():
        raise DocumentError(f"{name} has no text outside scripts and navigation")
    return text
