"""Several files and folders as one document: each in its order, under a line with its name.

The line is that of `head` and `tail`, `==> src/loop.py <==`: it stands in no format for anything
else, and lets a question name a file. One file alone has none, and its text is as it was written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lengthwise.documents.document import Document, Part
from lengthwise.documents.files import read_document
from lengthwise.documents.formats import KIND_BY_SUFFIX
from lengthwise.errors import DocumentError

Source = str | os.PathLike[str]


def read(paths: Source | Sequence[Source], encoding: str | None = None) -> Document:
    """One document of files and folders: text, code, Markdown, HTML, PDF, Word (.docx).

    Args:
        paths: one path, or several; "-" is standard input. Of a folder all files are read, in the
            order of their names, those of its folders included; hidden ones are left out, and
            links to what lies outside of it passed over.
        encoding: of plain text and HTML, as Python names it. None: UTF-8, or what a byte order mark
            or the page says.

    Returns:
        A Document: its `text` (also `str` of it), its `name`, and in `skipped` what was wrong with
        files of folders that hold no text. Several files stand in one text, each under a line
        `==> name <==`.

    Raises:
        DocumentError: for a path given that cannot be read, or is given twice; for a folder
            without any text.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise DocumentError("no path is given: give a file, a folder or a list of them")
    if len(given) == 1 and not _is_folder(given[0]):
        return read_document(given[0], encoding)
    _refuse_twice(given)
    parts: list[tuple[str, str]] = []
    skipped: list[str] = []
    for source in given:
        if _is_folder(source):
            found, without = _read_folder(Path(os.path.expanduser(source)), encoding)
            parts += found
            skipped += without
        else:
            parts.append((_heading(source, given), read_document(source, encoding).text))
    return _joined(parts, _name(given, len(parts)), skipped)


def read_each(paths: Sequence[Source], encoding: str | None = None) -> list[Document]:
    """Every file as a document of its own, the files of folders too.

    Args:
        paths: as for `read`, one at least.
        encoding: as for `read`.

    Returns:
        The documents in their order; the first one's `skipped` is what was wrong with files of
        folders that hold no text.

    Raises:
        DocumentError: as `read` does.
    """
    if not paths:
        raise DocumentError("no path is given: give a file, a folder or a list of them")
    _refuse_twice(paths)
    found: list[Document] = []
    skipped: list[str] = []
    for source in paths:
        if _is_folder(source):
            parts, without = _read_folder(Path(os.path.expanduser(source)), encoding)
            found += [Document(name, text) for name, text in parts]
            skipped += without
        else:
            found.append(read_document(source, encoding))
    return [replace(found[0], skipped=tuple(skipped)), *found[1:]]


def document_from(
    given: str | os.PathLike[str] | Document | Sequence[os.PathLike[str] | Document] | None,
) -> Document:
    """The document in whichever way it was given.

    Args:
        given: text, a path, a Document, or a list of the latter two. None: the Python language
            reference.

    Returns:
        One Document.

    Raises:
        DocumentError: for the name of a file given as text, and for anything else.
    """
    if given is None:
        return read_document()
    if isinstance(given, Document):
        return given
    if isinstance(given, str):
        _refuse_name(given)
        return Document.from_text(given)
    if isinstance(given, os.PathLike):
        return read(given)
    listed = isinstance(given, Sequence) and bool(given)
    if not listed or not all(isinstance(each, (os.PathLike, Document)) for each in given):
        what = "strings" if listed else f"type {type(given).__name__}"
        raise DocumentError(
            f"a document of {what}: give its text, a pathlib.Path, lengthwise.read(...) of one or "
            "several paths, or None for the built-in one"
        )
    paths = [each for each in given if not isinstance(each, Document)]
    if len(paths) == len(given):
        return read(paths)
    each = [document_from(one) for one in given]
    skipped = [line for one in each for line in one.skipped]
    name = f"{each[0].name} and {len(each) - 1} more" if len(each) > 1 else each[0].name
    return _joined([(one.name, one.text) for one in each], name, skipped)


def _refuse_name(text: str) -> None:
    """Raises DocumentError for text that is the name of a file: measuring it is never meant."""
    if "\n" in text or not text.strip() or len(text) > 1024:
        return
    path = Path(os.path.expanduser(text))
    try:
        there = path.exists()
    except (OSError, ValueError):
        there = False
    if there or (path.suffix.lower() in KIND_BY_SUFFIX and not any(map(str.isspace, text))):
        raise DocumentError(
            f"{text!r} is text here, and looks like the name of a file: give "
            f"lengthwise.read({text!r})"
        )


def _joined(parts: Sequence[tuple[str, str]], name: str, skipped: Sequence[str]) -> Document:
    """Texts as one, each under a line with its name."""
    texts: list[str] = []
    found: list[Part] = []
    at = 0
    for part, own in parts:
        head, kept = f"==> {part} <==\n\n", own.strip("\n")
        start = at + len(head)
        found.append(Part(part, start, start + len(kept), own.find(kept)))
        texts.append(head + kept)
        at = start + len(kept) + 2
    return Document(name, "\n\n".join(texts) + "\n", "several", tuple(skipped), tuple(found))


def files_in(folder: Path) -> Iterator[Path]:
    """All files of a folder and those below it in the order of their names; none that is hidden,
    and a link to another of them not a second time.

    Args:
        folder: links in it to files elsewhere are among them.
    """
    whole = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if _hidden(path.relative_to(folder)) or not path.is_file():
            continue
        target = path.resolve()
        inside = path.is_symlink() and target.is_relative_to(whole)
        if not (inside and not _hidden(target.relative_to(whole))):
            yield path


def _refuse_outside(folder: Path, path: Path) -> None:
    """Raises DocumentError for a link of a folder to what lies elsewhere: naming a folder does not
    name that."""
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise DocumentError(
            f"{path.name} is a link to a file outside of the folder; name that file"
        )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def texts_in(
    folder: Path, read: Callable[[Path], Iterable[str]], skipped: list[str]
) -> Iterator[tuple[str, str]]:
    """(name, text) of what is read from the files of a folder that hold text.

    Args:
        folder: whose files are read, those of its folders included.
        read: gives the texts of one file.
        skipped: gets what was wrong with each of the others.
    """
    name = folder.resolve().name
    for path in files_in(folder):
        shown = (Path(name) / path.relative_to(folder)).as_posix()
        try:
            _refuse_outside(folder, path)
            for text in read(path):
                yield shown, text
        except DocumentError as error:
            skipped.append(f"{shown}: {error}")


def _read_folder(folder: Path, encoding: str | None) -> tuple[list[tuple[str, str]], list[str]]:
    """(name, text) of every file that holds text, and what was wrong with the others."""
    skipped: list[str] = []
    found = list(texts_in(folder, lambda path: [read_document(path, encoding).text], skipped))
    if not found:
        passed = f" ({len(skipped)} passed over; {skipped[0]})" if skipped else ""
        raise DocumentError(f"the folder {folder} holds no file with text in it{passed}")
    return found, skipped


def _is_folder(source: Source) -> bool:
    name = os.fspath(source)
    try:
        return bool(name) and name != "-" and Path(os.path.expanduser(name)).is_dir()
    except (OSError, ValueError):
        return False


def _heading(source: Source, given: Sequence[Source]) -> str:
    """What a file is called: its name, or its path where two have the same name."""
    if source == "-":
        return "standard input"
    path = Path(source)
    alike = [other for other in given if Path(other).name == path.name]
    return path.name if len(alike) == 1 else path.as_posix()


def _refuse_twice(given: Sequence[Source]) -> None:
    """Raises DocumentError for a file that is given twice, by itself or in a folder."""
    seen: dict[object, str] = {}
    for source in given:
        path = Path(os.path.expanduser(source))
        files = files_in(path) if _is_folder(source) else [path]
        for file in files:
            key: object = "-" if source == "-" else file.resolve()
            if key in seen:
                place = f", as {seen[key]} and in {source}" if seen[key] != str(source) else ""
                raise DocumentError(f"{file} is given twice{place}: give it once")
            seen[key] = str(source)


def _name(given: Sequence[Source], count: int) -> str:
    first = (
        "standard input" if given[0] == "-" else Path(os.path.expanduser(given[0])).resolve().name
    )
    if len(given) > 1:
        return f"{first} and {len(given) - 1} more"
    return f"{first} ({count} file{'s' * (count != 1)})"


__all__ = ["document_from", "files_in", "read", "read_each", "texts_in"]
