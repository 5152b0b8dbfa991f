"""The same text in many languages: what each language pays for it in tokens.

Corpus token count (CTC): tokens of a language's side of a parallel text. Premium: its CTC over that
of a reference language. Parity (Petrov et al., arXiv 2305.15425, 2023): the mean over lines of the
same ratio. Premiums are of totals, because short lines sway a mean of ratios.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise._utils.plural import many
from lengthwise._utils.suggestions import hint
from lengthwise.documents.encodings import decode
from lengthwise.documents.formats import KIND_BY_SUFFIX
from lengthwise.errors import DocumentError
from lengthwise.tokenization.opened import OpenTokenizer
from lengthwise.tokenization.report.texts import counted
from lengthwise.tokenization.words import count_words

OBJECTS = (".json", ".jsonl", ".ndjson")
PLAIN = (".txt", ".text", ".md", ".markdown", "")
# Files that hold no lines of one language, whatever they are called.
OTHERS = {*KIND_BY_SUFFIX, *OBJECTS, ".csv", ".tsv"} - set(PLAIN)
ENGLISH = ("en", "eng", "english", "en-us", "en-gb", "eng_latn", "en_us", "en_gb")
TURKISH = ("tr", "tur", "turkish", "tur_latn", "tr-tr", "tr_tr", "türkçe")


@dataclass(frozen=True, slots=True)
class Parallel:
    """A text in several languages, line by line. name: of where it is from."""

    name: str
    lines: Mapping[str, Seq[str]]

    def __post_init__(self) -> None:
        if len(self.lines) < 2:
            raise DocumentError(
                f"{self.name} holds {many(len(self.lines), 'language')}; a parallel text has two "
                "at least"
            )
        if not all(language.strip() for language in self.lines):
            raise DocumentError(f"{self.name}: a language has no name; give each its own")
        counts = {language: len(lines) for language, lines in self.lines.items()}
        first, most = next(iter(counts.items()))
        for language, count in counts.items():
            if count != most:
                raise DocumentError(
                    f"{self.name}: {first} has {many(most, 'line')} and {language} {count:,}; a "
                    "parallel text has the same lines in every language"
                )
            if not any(line.strip() for line in self.lines[language]):
                raise DocumentError(f"{self.name}: {language} is empty")

    def reference(self, wanted: str | None = None) -> str:
        """The language that others are held against.

        Args:
            wanted: its name; None is English where there is one, and else the first.

        Raises:
            DocumentError: for one that is not there.
        """
        if wanted is None:
            english = [each for each in self.lines if each.lower() in ENGLISH]
            return english[0] if english else next(iter(self.lines))
        if wanted not in self.lines:
            raise DocumentError(
                f"there is no language {wanted!r} in {self.name}{hint(wanted, self.lines)}"
            )
        return wanted

    def turkish(self) -> str | None:
        """The language that is Turkish, by its name; None without one."""
        return next((each for each in self.lines if each.lower() in TURKISH), None)


@dataclass(frozen=True, slots=True)
class LanguageFigures:
    """A language's side of a parallel text in one tokenizer. used: tokens of the vocabulary that
    stand in it. byte_premium: its UTF-8 bytes over those of the reference."""

    language: str
    tokens: int
    bytes: int
    characters: int
    words: int
    used: int
    premium: float
    parity: float
    byte_premium: float

    @property
    def fertility(self) -> float:
        """Tokens of a word."""
        return self.tokens / max(self.words, 1)

    @property
    def bytes_per_token(self) -> float:
        """How much text a token holds."""
        return self.bytes / max(self.tokens, 1)


def measure_languages(
    tokenizer: OpenTokenizer, parallel: Parallel, reference: str
) -> list[LanguageFigures]:
    """What every language pays, in the order of the parallel text.

    Args:
        tokenizer: that encodes it.
        parallel: the text.
        reference: the language whose premium is 1.
    """
    lengths, used = {}, {}
    for language, lines in parallel.lines.items():
        encoded = tokenizer.encode(list(lines))
        lengths[language] = np.array([len(ids) for ids in encoded], dtype=np.float64)
        used[language] = int(np.count_nonzero(counted(encoded, tokenizer.size)))
    base, base_bytes = lengths[reference], _bytes(parallel.lines[reference])
    found = []
    for language, lines in parallel.lines.items():
        own, both = lengths[language], (base > 0) & (lengths[language] > 0)
        found.append(LanguageFigures(
            language, int(own.sum()), _bytes(lines), sum(map(len, lines)),
            sum(map(count_words, lines)), used[language],
            float(own.sum() / max(base.sum(), 1.0)),
            float(np.mean(own[both] / base[both])) if both.any() else 0.0,
            _bytes(lines) / max(base_bytes, 1),
        ))  # fmt: skip
    return found


def _bytes(lines: Seq[str]) -> int:
    return sum(len(line.encode()) for line in lines)


def read_parallel(place: str | os.PathLike[str]) -> Parallel:
    """A parallel text from where it lies. Nothing of it is left out.

    Args:
        place: a folder with a text file a language; a table whose first line names the languages
            (.csv, all others are split at tabs); an object of lists of lines by language (.json);
            or an object a line, from languages to lines (.jsonl). A file of a folder is called as
            its language is (en.txt, en.md, en), or by a suffix of its own (dev.eng_Latn).

    Raises:
        DocumentError: where there is none, a file is no text, a language is there twice, or lines
            do not match.
    """
    path = Path(os.path.expanduser(os.fspath(place)))
    if path.is_dir():
        return Parallel(path.resolve().name, _of_folder(path))
    if not path.is_file():
        raise DocumentError(f"there is no parallel text {path}: name a folder, a .tsv or a .json")
    text, suffix = _text_of(path), path.suffix.lower()
    return Parallel(path.name, (_of_objects if suffix in OBJECTS else _of_table)(text, path))


def _text_of(path: Path) -> str:
    try:
        return decode(path.read_bytes(), path.name)
    except OSError as error:
        raise DocumentError(f"cannot read {path.name}: {error.strerror}") from error


def _of_folder(folder: Path) -> dict[str, list[str]]:
    files = sorted(each for each in folder.iterdir() if each.name[0] != ".")
    within = next((each.name for each in files if not each.is_file()), None)
    if within is not None:
        raise DocumentError(
            f"{folder.name}: {within} is no file; name the folder whose files are the languages, "
            f"as {Path(folder.name, within)} may be"
        )
    named = []
    for file in files:
        suffix = file.suffix.lower()
        if suffix in OTHERS:
            raise DocumentError(
                f"{folder.name}: {file.name} is no plain text of one language; keep a text file a "
                "language there, such as en.txt, and name a table or JSON by itself"
            )
        lines = _text_of(file).removesuffix("\n").split("\n")
        named.append((file.stem if suffix in PLAIN else file.name, lines))
    return _once(named, folder.name)


def _once(named: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    """What belongs to each name. Raises DocumentError for a name that is there twice."""
    found: dict[str, Any] = {}
    for name, value in named:
        if name in found:
            raise DocumentError(f"{where} has the language {name!r} twice; keep one of them")
        found[name] = value
    return found


def _of_objects(text: str, path: Path) -> dict[str, list[str]]:
    if path.suffix.lower() == ".json":
        found = _json(text, path.name)
    else:
        lines = enumerate(text.split("\n"), 1)
        found = [_json(line, path.name, at) for at, line in lines if line.strip()]
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        names = list(found[0])
        for number, each in enumerate(found, 1):
            if set(each) != set(names):
                raise DocumentError(
                    f"{path.name}: object {number} has not the languages of the first "
                    f"({', '.join(names)})"
                )
        found = {name: [each[name] for each in found] for name in names}
    right = isinstance(found, dict) and all(
        isinstance(lines, list) and all(isinstance(line, str) for line in lines)
        for lines in found.values()
    )
    if not right:
        raise DocumentError(
            f"{path.name} is no parallel text: give {{language: [line, ...]}}, or an object a line"
        )
    return dict(found)


def _json(text: str, name: str, line: int = 1) -> Any:
    """What JSON says. line: that the text begins in."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, name))
    except DocumentError:
        raise
    except (ValueError, RecursionError) as error:
        why = str(error)
        if isinstance(error, json.JSONDecodeError):
            why = f"line {line + error.lineno - 1}, column {error.colno}: {error.msg}"
        raise DocumentError(f"{name} is no JSON ({why})") from error


def _of_table(text: str, path: Path) -> dict[str, list[str]]:
    (_, names), *below = list(_rows(text, path)) or [(1, [])]
    if len(names) < 2:
        raise DocumentError(
            f"{path.name} has one column; a .csv has commas between languages, other tables tabs"
        )
    if not below:
        raise DocumentError(f"{path.name} has no lines below the names of the languages")
    for number, row in below:
        if len(row) != len(names):
            raise DocumentError(
                f"{path.name}: line {number} has {many(len(row), 'column')}, and the first "
                f"{len(names)}"
            )
    columns = zip(*(row for _, row in below), strict=True)
    return _once(zip(names, map(list, columns), strict=True), path.name)


def _rows(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, each with the line that it ends in."""
    if path.suffix.lower() != ".csv":
        lines = text.removesuffix("\n").split("\n")
        yield from ((number, line.split("\t")) for number, line in enumerate(lines, 1))
        return
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        yield from ((reader.line_num, row) for row in reader)
    except csv.Error as error:
        raise DocumentError(f"{path.name}: line {reader.line_num} is no CSV ({error})") from error


__all__ = ["LanguageFigures", "Parallel", "measure_languages", "read_parallel"]
