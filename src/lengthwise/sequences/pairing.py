"""Which test file belongs to which code file, by their names.

Names are compared within a project: a repository; or all that one source folder holds, where it
keeps its tests in a folder of their own at the top. A test of `engine/cache.py` may be called
`test_cache.py`, `cache_test.py`, `cache.spec.py`, `CacheTest.java` or, told by its folders,
`test_engine_cache.py`. Where no code file has that name, the nearest spelling is taken, if it is
near. Every file is in one pair at most.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.counter_rng import Ints
from lengthwise.sequences.documents import TEXT
from lengthwise.sequences.files import reserve, written_aside
from lengthwise.sequences.orders import STRETCH, Order, by_repository, count_of
from lengthwise.sequences.token_store import TokenStore

TEST_FOLDERS = ("test", "tests", "spec", "specs", "testing", "unittests", "__tests__")
NEAR = 0.9
"""How alike two names are at least where none is the same, as difflib counts."""
ALONE = -1
_LETTERS = 128
_DEEP = 3
"""Folders that a test's name may repeat."""
_CODE = re.compile(r"^\.[A-Za-z]\w*$")
_WORD = r"tests?|specs?"
_MARKED = (
    re.compile(rf"^(?:{_WORD})[._-](.+)$", re.IGNORECASE),
    re.compile(rf"^(.+)[._-](?:{_WORD})$", re.IGNORECASE),
    re.compile(r"^(.*[a-z0-9])(?:Tests?|Specs?|IT)$"),
    re.compile(r"^Test([A-Z].*)$"),
)


def subject_of(stem: str) -> str | None:
    """What a file called `stem` tests, in lower case; None where it is no test."""
    for pattern in _MARKED:
        if found := pattern.match(stem):
            return found[1].lower()
    return None


def match(names: list[str]) -> dict[int, int]:
    """The place of the test of each code file that has one, by the place of the code file.

    names: paths of the files of one project.
    """
    by_name: dict[tuple[str, str], list[int]] = defaultdict(list)
    tests: list[tuple[int, str, str]] = []
    for place, name in enumerate(names):
        *folders, file = name.split("/")
        stem, suffix = os.path.splitext(file)
        if not _CODE.match(suffix) or suffix.lower() in TEXT:
            continue
        if (subject := subject_of(stem)) is not None:
            tests.append((place, subject, suffix))
        else:
            words = [*folders[-_DEEP:], stem]
            for first in range(len(words)):
                by_name["_".join(words[first:]).lower(), suffix].append(place)
    found: dict[int, int] = {}
    left = []
    for place, subject, suffix in tests:
        if not _take(found, by_name.get((subject, suffix), []), place, names):
            left.append((place, subject, suffix))
    spelt = {
        asked: Spellings([word for word, suffix in by_name if suffix == asked])
        for asked in {suffix for _, _, suffix in left}
    }
    for place, subject, suffix in left:
        for word in spelt[suffix].near(subject):
            near = [code for code in by_name[word, suffix] if _near(subject, word, names[code])]
            if _take(found, near, place, names):
                break
    return found


class Spellings:
    """Words, of which the nearest are found without comparing a word with each."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._sizes = np.array([len(word) for word in words], np.int64)
        self._counts = np.zeros((_LETTERS, len(words)), np.int16)
        owners = np.repeat(np.arange(len(words)), self._sizes)
        np.add.at(self._counts, (_letters("".join(words)), owners), 1)

    def near(self, word: str) -> list[str]:
        """The nearest five that are at least NEAR: what difflib finds among all."""
        letters, counts = np.unique(_letters(word), return_counts=True)
        # No two words have more in common than the letters that are in both.
        shared = np.minimum(self._counts[letters], counts[:, None].astype(np.int16)).sum(axis=0)
        likely = np.flatnonzero(2.0 * shared / (self._sizes + len(word)) >= NEAR)
        return difflib.get_close_matches(word, [self._words[n] for n in likely], 5, NEAR)


def _letters(text: str) -> Ints:
    """A number below _LETTERS for each letter; some of other scripts share one."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64) % _LETTERS


def _near(subject: str, word: str, name: str) -> bool:
    """Whether a subject is spelt nearly like the file that `word` ends with.

    Folders that `word` begins with have to be the same: they make all of their files look alike.
    """
    stem = os.path.splitext(os.path.basename(name))[0].lower()
    folders = word.removesuffix(stem)
    rest = subject.removeprefix(folders)
    same = subject.startswith(folders)
    return same and difflib.SequenceMatcher(None, rest, stem).ratio() >= NEAR


def _take(found: dict[int, int], candidates: list[int], test: int, names: list[str]) -> bool:
    """Gives the test to the free candidate with most folders in common, the first of several."""
    free = [code for code in candidates if code not in found]
    if free:
        own = set(names[test].split("/")[:-1])
        best = max(free, key=lambda code: (len(own & set(names[code].split("/")[:-1])), -code))
        found[best] = test
    return bool(free)


def partners(store: TokenStore, folder: Path, order: Order) -> Path:
    """A file of int64 [documents]: a code file's test, -2 - code for a test, ALONE for others.

    Memory: the names of one project; a byte a document where the order leaves some out.
    """
    path = folder / "partners.bin"
    if not path.exists():
        present = _present(store, order)
        with written_aside(path) as aside:
            table = np.memmap(aside, np.int64, "w+", shape=store.documents)
            reserve(table)
            table[:] = ALONE
            for documents in _projects(store, folder):
                if present is not None:
                    documents = documents[present[documents]]
                for code, test in match(store.names(documents)).items():
                    table[documents[code]] = documents[test]
                    table[documents[test]] = -2 - documents[code]
            table.flush()
    return path


def _present(store: TokenStore, order: Order) -> NDArray[np.bool_] | None:
    """Which documents an order has, None where it has all."""
    count = count_of(order, store)
    if count == store.documents:
        return None
    found = np.zeros(store.documents, bool)
    for first in range(0, count, STRETCH):
        found[order.documents(first, min(first + STRETCH, count))] = True
    return found


def project_of(repositories: list[str]) -> Ints:
    """The number of the project that each repository belongs to."""
    whole = set()
    for name in repositories:
        root, _, top = name.partition("/")
        if top.lower() in TEST_FOLDERS:
            whole.add(root)
    numbers: dict[str, int] = {}
    for name in repositories:
        root = name.partition("/")[0]
        numbers.setdefault(root if root in whole else name, len(numbers))
    found = []
    for name in repositories:
        root = name.partition("/")[0]
        found.append(numbers[root if root in whole else name])
    return np.array(found, np.int64)


def _projects(store: TokenStore, folder: Path) -> Iterator[Ints]:
    """The documents of each project, rising."""
    project = project_of(store.repository_names)
    order = by_repository(store, 0, folder / "projects.bin", project)
    held: list[Ints] = []
    current = -1
    for first in range(0, store.documents, STRETCH):
        documents = order.documents(first, min(first + STRETCH, store.documents))
        owners = project[store.repositories(documents)]
        borders = np.flatnonzero(owners[1:] != owners[:-1]) + 1
        for some, owner in zip(np.split(documents, borders), owners[[0, *borders]], strict=True):
            if owner != current and held:
                yield np.concatenate(held)
                held = []
            held.append(some)
            current = owner
    if held:
        yield np.concatenate(held)
