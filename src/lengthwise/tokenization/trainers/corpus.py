"""A corpus as training sees it: looked through once, and with a share held out.

Texts are cut at the ends of lines into stretches, every so many of which is held out: what a book
alone is trained on is then measured on other pages of it. What is trained on stays in long texts:
stretches of one document that follow each other are one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Texts, Told

STRETCH = 1 << 12
"""Characters of a stretch, about."""
LONGEST = 1 << 20
"""Characters of a text that is trained on, about; longer ones are cut at the end of a line."""


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
    """A text in stretches of about `STRETCH` characters, each up to the end of a line that no space
    follows, so that no piece of a pattern is cut in two.

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
        yield text[start:end]
        start = end


class Parts:
    """A corpus in two: what is trained on and what is held out, evenly over it.

    texts: the corpus. share: that is held out, of its stretches. seed: which ones.
    """

    def __init__(self, texts: Texts, share: float, seed: int = 0) -> None:
        self._texts, self._share = texts, share
        draw = hashlib.sha256(seed.to_bytes(8, "little")).digest()[:8]
        self._first = int.from_bytes(draw, "little") / 2**64

    def trained(self) -> Iterator[str]:
        """What is trained on, in its order."""
        held: list[str] = []
        for text, begins, out in self._dealt():
            if held and (begins or out or sum(map(len, held)) > LONGEST):
                yield "".join(held)
                held = []
            if not out:
                held.append(text)
        if held:
            yield "".join(held)

    def held_out(self) -> Iterator[str]:
        """What is held out, in its order."""
        return (text for text, _, out in self._dealt() if out)

    def _dealt(self) -> Iterator[tuple[str, bool, bool]]:
        """Every stretch, whether a text begins with it, and whether it is held out."""
        filled = self._first
        for text in self._texts():
            begins = True
            for stretch in stretches(text):
                filled += self._share
                out = filled >= 1
                filled -= out
                yield stretch, begins, out
                begins = False


__all__ = ["LONGEST", "STRETCH", "Parts", "Survey", "stretches", "survey"]
