"""The text of files that are no plain text: PDF, Word, HTML; and which of them a file is.

Each reader takes the bytes and what to call them, and raises DocumentError where there is no text.
"""

from __future__ import annotations

import codecs
import io
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lengthwise._utils.messages import first_line
from lengthwise._utils.saying import say_once
from lengthwise.documents.document import DocumentKind
from lengthwise.documents.encodings import WANTED, declared, decode
from lengthwise.errors import DocumentError

if TYPE_CHECKING:
    from pypdf import PageObject

KIND_BY_SUFFIX: dict[str, DocumentKind] = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
}
# What other files begin with, and what they are.
_OTHERS = {
    b"\xd0\xcf\x11\xe0": "an old Word or Excel file, or one with a password: save it as .docx "
    "without one, or as text",
    b"{\\rtf": "RTF: save it as .docx or as text",
    b"\x1f\x8b": "compressed: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed: unpack it first",
}


def sniff(data: bytes) -> DocumentKind:
    """What a file is by its first bytes.

    Args:
        data: the bytes of the whole file: what tells a Word file stands at its end.
    """
    start = data[:1024].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith(b"%pdf-"):
        return "pdf"
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    return "docx" if _holds(data, "word/document.xml") else "text"


def text_of(data: bytes, name: str, kind: DocumentKind, encoding: str | None = None) -> str:
    """All text of a file of this kind.

    Args:
        data: the bytes of the file.
        name: what a refusal calls it.
        kind: which reader takes it.
        encoding: of plain text and HTML, see `decode`.

    Raises:
        DocumentError: where there is no text, or it cannot be read.
    """
    if kind == "pdf":
        return _pdf(data, name)
    if kind == "docx":
        return _docx(data, name)
    for start, what in _OTHERS.items():
        if data.startswith(start):
            raise DocumentError(f"{name} is {what}")
    if data.startswith(b"PK\x03\x04"):
        raise DocumentError(f"{name} is a zip archive: unpack it, and name its files or folder")
    return _html(data, name, encoding) if kind == "html" else decode(data, name, encoding)


def _pdf(data: bytes, name: str) -> str:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    if b"%PDF-" not in data[:1024]:
        begins = f"it begins with {data[:4]!r}" if data.strip(b"\0") else "it holds no data"
        raise DocumentError(f"{name} is no PDF, whatever its name ({begins}, not with b'%PDF-')")
    try:
        with _silent("pypdf"):
            reader = PdfReader(io.BytesIO(data))
            locked = reader.is_encrypted and not reader.decrypt("")
            pages = [] if locked else list(reader.pages)
            texts = [page.extract_text().strip() for page in pages]
    except DependencyError as error:
        raise DocumentError(
            f"{name} is encrypted, and reading it needs cryptography: pip install cryptography"
        ) from error
    # A damaged PDF surfaces as almost any exception type from inside the parser.
    except Exception as error:
        reason = first_line(error)
        raise DocumentError(f"{name} is not a readable PDF: {reason}") from error
    if locked:
        raise DocumentError(f"{name} is encrypted and needs a password: save a copy without one")
    if not any(texts):
        raise DocumentError(
            f"{name} has no text in its {len(pages)} pages (a scan?): run OCR on it first"
        )
    scans = [n for n, text in enumerate(texts, 1) if not text and _pictured(pages[n - 1])]
    if scans:
        say_once(
            f"{name} has pictures and no text on {len(scans)} of its {len(pages)} pages (scans?), "
            f"the first is page {scans[0]}: run OCR on it to have them read"
        )
    return "\n\n".join(texts) + "\n"


def _pictured(page: PageObject) -> bool:
    """Whether a page holds a picture, or what cannot be looked at."""
    try:
        with _silent("pypdf"):
            return len(page.images) > 0
    except Exception:  # As above; and pictures within the text of a page need a library of theirs.
        return True


def _docx(data: bytes, name: str) -> str:
    from lengthwise.documents.word_text import text_of_word

    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise DocumentError(f"{name} is {_OTHERS[data[:4]]}")
    if not _holds(data, "word/document.xml"):
        raise DocumentError(f"{name} is no .docx: it does not hold word/document.xml; {WANTED}")
    try:
        text = text_of_word(data)
    # As with a PDF: damage comes up as whatever the parser met.
    except Exception as error:
        reason = first_line(error)
        raise DocumentError(f"{name} is not a readable .docx: {reason}") from error
    if not text.strip():
        raise DocumentError(f"{name} has no text in its paragraphs and tables")
    return text + "\n"


def _html(data: bytes, name: str, encoding: str | None) -> str:
    from bs4.dammit import EncodingDetector

    from lengthwise.documents.html_text import text_of_html

    found = encoding or declared(EncodingDetector.find_declared_encoding(data, is_html=True))
    text = text_of_html(decode(data, name, found))
    if not text.strip():
        raise DocumentError(f"{name} has no text outside scripts and navigation")
    return text


def _holds(data: bytes, member: str) -> bool:
    """Whether these bytes are a zip archive with such a file in it."""
    if not data.startswith(b"PK\x03\x04"):
        return False
    try:
        return member in zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


@contextmanager
def _silent(library: str) -> Iterator[None]:
    """Leaves out what a library logs: what it cannot read is said in one line, by us."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
