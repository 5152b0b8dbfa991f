"""A corpus as training sees it: looked through once, and with a share held out.

Texts are cut at the ends of lines into stretches, every so many of which is held out: what a book
alone is trained on is then measured on other pages of it. What is trained on stays in long texts:
stretches of one document that follow each other are one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Texts, Told

STRETCH = 1 << 12
"""Characters of a stretch, about."""
LINE = 1 << 16
"""Characters of a longest stretch, about: where lines give no shorter ones, words do."""
LONGEST = 1 << 20
"""Characters of a text that is trained on, about; longer ones are cut at the end of a line."""
# Before one space, or one sign of Chinese between letters, each of which begins a piece.
_BETWEEN = re.compile(r"(?<=\S) (?=\S)|(?<=[^\W_])[、。，！？](?=[^\W_])")


@dataclass(frozen=True)
class Survey:
    """What a corpus holds. fingerprint: of all its texts in their order."""

    texts: int
    characters: int
    bytes: int
    fingerprint: str


def survey(texts: Texts, told: Told) -> Survey:
    """Looks through a corpus.

    Args:
        texts: the corpus.
        told: called with progress; how large it is, is not known yet.

    Raises:
        TokenizerError: it is empty, of one character, or not Unicode.
    """
    count, characters, size, seen = 0, 0, 0, hashlib.sha256()
    different: set[str] = set()
    blank = True
    for count, text in enumerate(texts(), 1):
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"text {count} of the corpus is no Unicode (a lone surrogate at character "
                f"{error.start}): read its file with errors='replace', or leave it out"
            ) from None
        characters, size = characters + len(text), size + len(raw)
        if len(different) < 2:
            different.update(text)
        blank = blank and not text.strip()
        seen.update(len(raw).to_bytes(8, "little") + raw)
        told("looking through the corpus", 0.0)
    if not different:
        raise TokenizerError("the corpus is empty: give texts that hold something")
    if blank:
        raise TokenizerError("the corpus is nothing but spaces: give texts that hold something")
    if len(different) == 1:
        raise TokenizerError(
            f"the corpus is {characters:,} times the one character {different.pop()!r}: there is "
            "nothing to learn; give other texts"
        )
    return Survey(count, characters, size, seen.hexdigest())


def stretches(text: str) -> Iterator[str]:
    """A text in stretches of about `STRETCH` characters, none of which ends within a piece of a
    pattern: they end with a line that no space follows, or in very long lines with a word.

    Args:
        text: any.
    """
    start = 0
    while start < len(text):
        end = min(start + STRETCH, len(text))
        while end < len(text):
            end = text.find("\n", end - 1) + 1 or len(text)
            if end == len(text) or not text[end].isspace():
                break
            end += 1
        yield from (text[start:end],) if end - start <= LINE else _by_words(text[start:end])
        start = end


def _by_words(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > 2 * STRETCH and (cut := _BETWEEN.search(text, start + STRETCH)):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


class Parts:
    """A corpus in two: what is trained on and what is held out, evenly over it.

    texts: the corpus. share: that is held out, of its stretches; none where nothing but spaces
    would be left. seed: which ones.
    """

    def __init__(self, texts: Texts, share: float, seed: int = 0) -> None:
        self._texts, self._asked = texts, share
        draw = hashlib.sha256(seed.to_bytes(8, "little")).digest()[:8]
        self._first = int.from_bytes(draw, "little") / 2**64

    def trained(self) -> Iterator[str]:
        """What is trained on, in its order."""
        held: list[str] = []
        for text, begins, out in self._dealt(self._share):
            if held and (begins or out or sum(map(len, held)) > LONGEST):
                yield "".join(held)
                held = []
            if not out:
                held.append(text)
        if held:
            yield "".join(held)

    def held_out(self) -> Iterator[str]:
        """What is held out, in its order."""
        return (text for text, _, out in self._dealt(self._share) if out)

    @cached_property
    def _share(self) -> float:
        left = any(not out and text.strip() for text, _, out in self._dealt(self._asked))
        return self._asked if left else 0.0

    def _dealt(self, share: float) -> Iterator[tuple[str, bool, bool]]:
        """Every stretch, whether a text begins with it, and whether it is held out."""
        filled = self._first
        for text in self._texts():
            begins = True
            for stretch in stretches(text):
                filled += share
                out = filled >= 1
                filled -= out
                yield stretch, begins, out
                begins = False


__all__ = ["LONGEST", "STRETCH", "Parts", "Survey", "stretches", "survey"]
