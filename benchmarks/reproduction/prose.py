"""More than a hundred megabytes of text, most of it English prose and documentation, out of
packages: books (`books`), dictionaries, an encyclopaedic FAQ and manuals of Debian.

Fetched once by name with `apt-get download` into the user's cache, never committed. Web pages lose
their tags. What is long is cut at blank lines, so that a document is some thousands of characters.
"""

from __future__ import annotations

import collections
import gzip
import html
import random
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.books import gutenberg
from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir

PACKAGES = (
    "anarchism", "apache2-doc", "bible-kjv-text", "cmake-doc", "debian-handbook",
    "debian-reference-en", "dict-foldoc", "dict-gcide", "dict-jargon", "dict-wn", "exim4-doc-html",
    "git-doc", "gnome-user-docs", "libreoffice-help-en-us", "linux-doc-6.1", "maxima-doc",
    "octave-doc", "perl-doc", "postgresql-doc-15", "python-django-doc", "python3.11-doc",
    "sqlite3-doc",
)  # fmt: skip
_LONGEST = 16_000
_OTHER = re.compile(
    r"/(?!en)[a-z]{2}([-_]\w+)?/|/(_sources|genindex|search|objects)|\.(js|css|svg|png)"
)
_DROPPED = re.compile(r"(?is)<(script|style|head|nav|svg)\b.*?</\1>|<!--.*?-->")
_BLOCK = re.compile(
    r"(?i)</?(p|div|h[1-6]|li|tr|table|ul|ol|dl|dt|dd|br|section|blockquote)\b[^>]*>"
)
_TAG = re.compile(r"<[^>]*>")
_PRE = re.compile(r"(?is)<pre\b[^>]*>(.*?)</pre>")


def prose(megabytes: float) -> Iterator[str]:
    """Documents in an order that is the same each time, read as they are asked for.

    Args:
        megabytes: of UTF-8, at least so many. Behind the last document the first one comes again.

    Raises:
        DocumentError: where a package cannot be fetched.
    """
    size = 0
    while size < megabytes * 1e6:
        for document in _documents():
            size += len(document.encode())
            yield document
            if size >= megabytes * 1e6:
                break


def held_out(megabytes: float) -> list[str]:
    """The last documents: training on less than the whole corpus does not see them.

    Args:
        megabytes: of UTF-8, at least so many.
    """
    found = collections.deque[str]()
    size = 0
    for document in _documents():
        found.append(document)
        size += len(document.encode())
        while size - len(found[0].encode()) > megabytes * 1e6:
            size -= len(found.popleft().encode())
    return list(found)


def _documents() -> Iterator[str]:
    path = cache_dir() / "prose-1.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = sorted({each for each in _everything() if len(each) > 200})
        random.Random(0).shuffle(found)
        aside = path.with_suffix(".aside")
        aside.write_text("\0".join(found), encoding="utf-8")
        aside.replace(path)
    rest = ""
    with path.open(encoding="utf-8", newline="") as file:
        while piece := file.read(1 << 22):
            *whole, rest = (rest + piece).split("\0")
            yield from whole
    yield rest


def _everything() -> Iterator[str]:
    yield from _parts(gutenberg())
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            for text in _package(package, Path(folder)):
                yield from _parts(text)


def _package(name: str, folder: Path) -> Iterator[str]:
    try:
        subprocess.run(
            ["apt-get", "download", "-q", name],
            cwd=folder, check=True, capture_output=True, timeout=900,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise DocumentError(f"the package {name} cannot be fetched ({error})") from error
    (archive,) = folder.glob("*.deb")
    tar = folder / "data.tar"
    with tar.open("wb") as file:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=file, check=True)
    archive.unlink()
    with tarfile.open(tar) as package:
        for member in package:
            file = package.extractfile(member) if _wanted(member) else None
            if file is not None:
                yield _read(member.name, file.read())
    tar.unlink()


def _wanted(member: tarfile.TarInfo) -> bool:
    name = member.name.removesuffix(".gz")
    if not member.isfile() or _OTHER.search(name) or "changelog" in name or "copyright" in name:
        return False
    return name.endswith((".html", ".htm", ".xhtml", ".txt", ".rst", ".dict.dz", ".pod", ".page"))


def _read(name: str, raw: bytes) -> str:
    if name.endswith((".gz", ".dz")):
        raw = gzip.decompress(raw)
    text = raw.decode("utf-8", errors="replace").replace("\r\n", "\n")
    if name.removesuffix(".gz").endswith((".html", ".htm", ".xhtml", ".page")):
        text = _without_tags(text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).replace("\0", "")


def _without_tags(text: str) -> str:
    parts = _PRE.split(_DROPPED.sub("", text))
    for at, part in enumerate(parts):
        if at % 2 == 0:
            part = _BLOCK.sub("\n", re.sub(r"\s+", " ", part)).replace(" \n", "\n")
            part = part.replace("\n ", "\n")
        parts[at] = html.unescape(_TAG.sub("", part))
    return "\n".join(parts).strip()


def _parts(text: str) -> Iterator[str]:
    """A text cut at blank lines, or else at lines, into parts that are not long."""
    blocks = re.split(r"(?<=\n)(?=\n)", text)
    part: list[str] = []
    size = 0
    for block in blocks:
        for piece in [block] if len(block) <= _LONGEST else block.splitlines(keepends=True):
            if size and size + len(piece) > _LONGEST:
                yield "".join(part).strip()
                part, size = [], 0
            part.append(piece)
            size += len(piece)
    yield "".join(part).strip()


__all__ = ["PACKAGES", "held_out", "prose"]
