"""Lookup: what followed the last tokens the last time they stood here.

Saxena, "Prompt Lookup Decoding", 2023 (a repository; no paper). The last g tokens of prompt and
output are sought earlier in both, and what followed there is guessed to follow here: no model, no
training, and long right guesses wherever the output quotes, edits or repeats what was read.

    for g = max_match, ..., min_match:  i = an earlier end of the last g tokens;
                                        if there is one: draft[j] = token[i + j], j = 1 .. max_draft

Ours takes the longest match at any length (the most recent among equals) where the original takes
the first of three lengths, reads its own draft when the match overlaps the end, so that a loop is
guessed as far as is asked, and tells the policy how long the match was, which says most about how
far it can be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lengthwise.engine.roles import Drafter
from lengthwise.engine.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Question, option
from lengthwise.models.adapt import Adapted

# Tokens that are scanned rather than indexed: this many, or an eighth of what is indexed.
TAIL = 1024
# Places compared token by token, the most recent ones that share the longest indexed gram.
CANDIDATES = 48
# An odd multiplier: grams are hashed as polynomials modulo 2**64, and every hit is compared.
BASE = 0x9E3779B97F4A7C15

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Lookup(Method):
    """max_draft: guesses a step. min_match, max_match: shortest and longest match sought."""

    name: ClassVar[str] = "lookup"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[str] = "Prompt Lookup Decoding (2023)"
    lossless: ClassVar[bool] = True
    max_draft: int = option(32, "most tokens guessed a step", low=1)
    min_match: int = option(2, "shortest match that is believed, in tokens", low=1)
    max_match: int = option(32, "longest match that is told from longer ones, in tokens", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_match < self.min_match:
            raise RecipeError(
                f"lookup(min_match={self.min_match}, max_match={self.max_match}): no match is that "
                f"long and that short; give a max_match of at least {self.min_match}"
            )

    @classmethod
    def identity(cls, length: int) -> Lookup:
        """No match can be longer than the text."""
        return cls(min_match=length + 1, max_match=length + 1)

    def start_drafter(self, model: Adapted) -> LookupDrafter:
        return LookupDrafter(self)


class LookupDrafter(Drafter):
    """Adds one chain a step. A guess is graded by the match that has grown up to it."""

    name = "lookup"

    def __init__(self, options: Lookup) -> None:
        self.options = options
        self.index = Index(options.min_match, options.max_match)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.index.extend(tokens[len(self.index) :])
        end, length = self.index.find()
        if not length:
            return
        parent = 0
        for token in self.index.after(end, min(limit, self.options.max_draft)):
            grade = _grade(length)
            parent = tree.add(parent, token, self.name, grade, _prior(grade))
            length += 1


def _grade(length: int) -> int:
    """1, 2, 3, then two grades an octave, up to 32 tokens and more."""
    if length <= 3:
        return length
    octave = min(length, 32).bit_length() - 1
    return 2 * octave + (min(length, 32) >> (octave - 1) & 1)


def _prior(grade: int) -> float:
    """Chance that the next token follows a match, before this text has shown its own."""
    return 1 - 1.6 / (grade + 1)


class Index:
    """The longest earlier match of the end of a growing text.

    Ends of grams of `shortest`, twice that, ... tokens lie sorted by hash in arrays, made for all
    tokens at once; newer tokens are scanned until they are many, so a token costs O(log n) over
    time and a search takes a few dozen array operations whatever the length. A longest match is
    missed only where more than CANDIDATES newer places share at least half of it.
    """

    def __init__(self, shortest: int, longest: int) -> None:
        self.longest = longest
        self.levels = [shortest]
        while self.levels[-1] * 2 <= longest:
            self.levels.append(self.levels[-1] * 2)
        self._tokens: Tokens = np.empty(0, np.int64)
        self._count = 0
        self._indexed = 0
        self._keys: list[NDArray[np.uint64]] = []
        self._ends: list[Tokens] = []

    def __len__(self) -> int:
        return self._count

    def extend(self, tokens: Seq[int]) -> None:
        stop = self._count + len(tokens)
        if stop > len(self._tokens):
            grown = np.empty(max(1024, stop * 5 // 4), np.int64)
            grown[: self._count] = self._tokens[: self._count]
            self._tokens = grown
        self._tokens[self._count : stop] = tokens
        self._count = stop
        if stop - self._indexed > max(TAIL, self._indexed // 8):
            self._rebuild()

    def find(self) -> tuple[int, int]:
        """Index of the last token of the best match, and the match's length; (0, 0) without one."""
        count = self._count
        if count <= self.levels[0]:
            return 0, 0
        ends = np.concatenate([self._search(), self._scan()])
        if not len(ends):
            return 0, 0
        back = np.arange(min(self.longest, count - 1))
        places = ends[:, None] - back
        same = (self._tokens[places] == self._tokens[count - 1 - back]) & (places >= 0)
        lengths = np.where(same.all(1), len(back), same.argmin(1))
        best = len(ends) - 1 - int(lengths[::-1].argmax())
        length = int(lengths[best])
        return (int(ends[best]), length) if length >= self.levels[0] else (0, 0)

    def after(self, end: int, count: int) -> list[int]:
        """What followed; past the end of the text it repeats itself, as the match does."""
        period = self._count - 1 - end
        found: list[int] = self._tokens[end + 1 : min(end + 1 + count, self._count)].tolist()
        while len(found) < count:
            found.append(found[-period])
        return found

    def _search(self) -> Tokens:
        """Indexed ends of the longest gram that stands there, ascending."""
        suffix = self._tokens[max(0, self._count - self.levels[-1]) : self._count]
        found = np.empty(0, np.int64)
        grams = (key[-1] for key in _hashes(suffix, self.levels))
        for gram, keys, ends in zip(grams, self._keys, self._ends, strict=False):
            start = int(keys.searchsorted(gram))
            if start == len(keys) or keys[start] != gram:
                break
            stop = int(keys.searchsorted(gram, "right"))
            found = ends[max(start, stop - CANDIDATES) : stop]
        return found

    def _scan(self) -> Tokens:
        """Ends of the shortest gram among the tokens that are not indexed yet, ascending."""
        start, last = max(self._indexed, self.levels[0] - 1), self._count - 1
        match = np.ones(max(0, last - start), bool)
        for back in range(self.levels[0] if len(match) else 0):
            match &= self._tokens[start - back : last - back] == self._tokens[last - back]
        return match.nonzero()[0][-CANDIDATES:] + start

    def _rebuild(self) -> None:
        # The last token is left out: the text must not be found to match itself.
        self._indexed = self._count - 1
        self._keys, self._ends = [], []
        hashes = _hashes(self._tokens[: self._indexed], self.levels)
        for level, key in zip(self.levels, hashes, strict=False):
            order = key.argsort(kind="stable")
            self._keys.append(key[order])
            self._ends.append(order + (level - 1))


def _hashes(tokens: Tokens, levels: Seq[int]) -> list[NDArray[np.uint64]]:
    """Hashes of all grams of each level that fits: entry i is of the gram that begins at i."""
    found: list[NDArray[np.uint64]] = []
    if len(tokens) < levels[0]:
        return found
    values = tokens.astype(np.uint64) + np.uint64(1)
    key = np.zeros(len(tokens) - levels[0] + 1, np.uint64)
    for shift in range(levels[0]):
        key = key * np.uint64(BASE) + values[shift : shift + len(key)]
    found.append(key)
    for level in levels[:-1]:
        if len(tokens) < 2 * level:
            break
        power = np.uint64(pow(BASE, level, 1 << 64))
        key = key[:-level] * power + key[level:]
        found.append(key)
    return found
