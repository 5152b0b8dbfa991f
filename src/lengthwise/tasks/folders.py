"""Several files and folders as one document: each in its order, under a line with its name.

The line is that of `head` and `tail`, `==> src/loop.py <==`: it stands in no format for anything
else, and lets a question name a file. One file alone has none, and its text is as it was written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lengthwise.errors import DocumentError
from lengthwise.tasks.documents import Document, read_document

Source = str | os.PathLike[str]


def read(paths: Source | Sequence[Source], encoding: str | None = None) -> Document:
    """One document of files and folders: text, code, Markdown, HTML, PDF, Word (.docx).

    Args:
        paths: one path, or several; "-" is standard input. Of a folder all files are read, in the
            order of their names, those of its folders included and hidden ones left out.
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
            found, without = _read_folder(Path(source).expanduser(), encoding)
            parts += found
            skipped += without
        else:
            parts.append((_heading(source, given), read_document(source, encoding).text))
    text = "\n\n".join(f"==> {name} <==\n\n{text.strip(chr(10))}" for name, text in parts) + "\n"
    return Document(_name(given, len(parts)), text, "several", tuple(skipped))


def files_in(folder: Path) -> Iterator[Path]:
    """All files of a folder and those below it in the order of their names; none that is hidden."""
    for path in sorted(folder.rglob("*")):
        hidden = any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts
        )
        if not hidden and path.is_file():
            yield path


def _read_folder(folder: Path, encoding: str | None) -> tuple[list[tuple[str, str]], list[str]]:
    """(name, text) of every file that holds text, and what was wrong with the others."""
    found: list[tuple[str, str]] = []
    skipped: list[str] = []
    name = folder.resolve().name
    for path in files_in(folder):
        shown = (Path(name) / path.relative_to(folder)).as_posix()
        try:
            found.append((shown, read_document(path, encoding).text))
        except DocumentError as error:
            skipped.append(f"{shown}: {error}")
    if not found:
        passed = f" ({len(skipped)} passed over; {skipped[0]})" if skipped else ""
        raise DocumentError(f"the folder {folder} holds no file with text in it{passed}")
    return found, skipped


def _is_folder(source: Source) -> bool:
    name = os.fspath(source)
    try:
        return bool(name) and name != "-" and Path(name).expanduser().is_dir()
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
        path = Path(source).expanduser()
        files = files_in(path) if _is_folder(source) else [path]
        for file in files:
            key: object = "-" if source == "-" else file.resolve()
            if key in seen:
                place = f", as {seen[key]} and in {source}" if seen[key] != str(source) else ""
                raise DocumentError(f"{file} is given twice{place}: give it once")
            seen[key] = str(source)


def _name(given: Sequence[Source], count: int) -> str:
    first = "standard input" if given[0] == "-" else Path(given[0]).expanduser().resolve().name
    if len(given) > 1:
        return f"{first} and {len(given) - 1} more"
    return f"{first} ({count} file{'s' * (count != 1)})"


__all__ = ["files_in", "read"]
