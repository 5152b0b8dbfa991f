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
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise._utils.suggestions import hint
from lengthwise.documents.encodings import decode
from lengthwise.errors import DocumentError
from lengthwise.tokenization.opened import OpenTokenizer
from lengthwise.tokenization.report.texts import counted
from lengthwise.tokenization.words import count_words

SUFFIXES = (".txt", ".text", "")
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
                f"{self.name} holds {len(self.lines)} languages; a parallel text has two at least"
            )
        counts = {language: len(lines) for language, lines in self.lines.items()}
        first, most = next(iter(counts.items()))
        for language, count in counts.items():
            if count != most:
                raise DocumentError(
                    f"{self.name}: {first} has {most:,} lines and {language} {count:,}; a parallel "
                    "text has the same lines in every language"
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
    """A parallel text from where it lies.

    Args:
        place: a folder with a text file a language, called as the language is; a table whose
            first line names the languages (.tsv, .csv); an object of lists of lines by language
            (.json); or an object a line, from languages to lines (.jsonl).

    Raises:
        DocumentError: where there is none, a file is no text, or lines do not match.
    """
    path = Path(os.path.expanduser(os.fspath(place)))
    if path.is_dir():
        return Parallel(path.resolve().name, dict(_of_folder(path)))
    if not path.is_file():
        raise DocumentError(f"there is no parallel text {path}: name a folder, a .tsv or a .json")
    try:
        text = decode(path.read_bytes(), path.name)
    except OSError as error:
        raise DocumentError(f"cannot read {path.name}: {error.strerror}") from error
    if path.suffix in (".json", ".jsonl", ".ndjson"):
        return Parallel(path.name, _of_objects(text, path))
    return Parallel(path.name, _of_table(text, path))


def _of_folder(folder: Path) -> Iterator[tuple[str, list[str]]]:
    files = sorted(each for each in folder.iterdir() if each.is_file() and each.name[0] != ".")
    for file in files:
        if file.suffix.lower() in SUFFIXES or len(file.suffix) > 4:
            lines = decode(file.read_bytes(), file.name).removesuffix("\n").split("\n")
            yield file.stem if file.suffix.lower() in SUFFIXES else file.name, lines


def _of_objects(text: str, path: Path) -> dict[str, list[str]]:
    try:
        whole = path.suffix == ".json"
        found: Any = json.loads(text) if whole else [json.loads(x) for x in text.splitlines()]
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path.name} is no JSON ({error})") from error
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        names = list(found[0])
        if any(set(each) != set(names) for each in found):
            raise DocumentError(f"{path.name}: not every line has the languages of the first")
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


def _of_table(text: str, path: Path) -> dict[str, list[str]]:
    if path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(text)))
    else:
        rows = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    if len(rows) < 2:
        raise DocumentError(f"{path.name} has no lines below the names of the languages")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DocumentError(
                f"{path.name}: line {number} has {len(row)} columns, and the first {len(rows[0])}"
            )
    return {name: [row[at] for row in rows[1:]] for at, name in enumerate(rows[0])}


__all__ = ["LanguageFigures", "Parallel", "measure_languages", "read_parallel"]
