"""One part of a long text: the sentences of an answer as they come, up to the words asked for.

A sentence is let through when it is whole. One that was said before, or that goes round in itself,
is held back; several of these in a row, the words that were asked for, or the heading of a later
part end the answer. So what is streamed is what is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from lengthwise.retrieval.sentences import sentences
from lengthwise.tokenization.words import count_words, words_of

# Sentences of fewer words, such as the names of steps, are said again so often without harm.
SHORT, SHORT_TIMES = 4, 4
# So many held back in a row are a loop.
LOOP = 3
# Words in a row which, found so often in one sentence, make it one that goes round.
_RUN, _TIMES = 4, 4
# Characters behind which a sentence without an end is looked at, again and again.
_LONG = 600
_HEADING = re.compile(
    r"[\s*#>_-]*(?:part|paragraph)\s+(\d+)\b\s*(?:\*\*)?\s*[:.\u2013\u2014-]*[*\s]*", re.I
)


class Enough(Exception):
    """No more of this answer is wanted: raised in a model's stream, which ends it."""


class PartText:
    """The text of one part.

    number: of the part. target: its words. said: sentences of the parts before, with how often each
    was said; this one's are added. repeats: most times that one may be said; 0 is any number.
    """

    def __init__(
        self, number: int, target: int, said: Counter[str], repeats: int,
        sink: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.number, self.target = number, target
        self.text, self.words = "", 0
        self.held_back = 0
        self._said, self._repeats, self._sink = said, repeats, sink
        self.begin()

    def begin(self, frame: str = "") -> None:
        """A new answer begins.

        Args:
            frame: what was asked: a model that says it again says nothing.
        """
        self._frame = {key_of(each) for each in sentences(frame)} - {""}
        self._buffer, self._row, self._heard, self._look = "", 0, False, _LONG

    def hear(self, piece: str) -> None:
        """Takes a piece of an answer.

        Args:
            piece: as it comes.

        Raises:
            Enough: no more is wanted.
        """
        self._heard = self._heard or bool(piece)
        self._buffer += piece
        # What ends here may go on: a last sentence is whole when the next begins.
        *whole, self._buffer = sentences(self._buffer) or [""]
        for each in whole:
            self._take(each)
        if len(self._buffer) > self._look:
            self._look = len(self._buffer) + _LONG
            if goes_round(key_of(self._buffer)):
                self.held_back += 1
                raise Enough
        elif whole:
            self._look = _LONG

    def end(self, answer: str, whole: bool) -> None:
        """An answer is over.

        Args:
            answer: all of it, for models that do not stream.
            whole: whether it ended by itself; otherwise its last sentence is torn.

        Raises:
            Enough: as in `hear`.
        """
        if not self._heard:
            self.hear(answer)
        rest, self._buffer = self._buffer, ""
        if whole or not self.text:
            self._take(rest)

    def _take(self, sentence: str) -> None:
        heading = _HEADING.match(sentence)
        if heading:
            if int(heading[1]) > self.number:
                raise Enough
            sentence = sentence[heading.end() :]
        count = count_words(sentence)
        if not sentence.strip():
            self._pass(sentence)
            return
        # The nearer end of a sentence is the end of the part.
        if self.words + count / 2 > self.target and self.text.strip():
            raise Enough
        key = key_of(sentence)
        most = self._repeats if count >= SHORT else self._repeats * SHORT_TIMES
        if key in self._frame or goes_round(key) or 0 < most <= self._said[key]:
            self.held_back += 1
            self._row += 1
            if self._row >= LOOP:
                raise Enough
            return
        self._row = 0
        self._said[key] += 1
        self.words += count
        self._pass(sentence)
        if self.words >= self.target:
            raise Enough

    def _pass(self, text: str) -> None:
        if not self.text.strip() or (self.text.endswith("\n\n") and not text.strip()):
            text = text.lstrip()
        elif not self.text[-1].isspace() and text and not text[0].isspace():
            text = f" {text}"
        self.text += text
        if self._sink is not None and text:
            self._sink(text)

    def gap(self) -> None:
        """Puts a paragraph's end behind what there is, for another answer."""
        if self.text.strip():
            held = self.text[len(self.text.rstrip()) :].count("\n")
            self._pass("\n" * max(0, 2 - held))


def key_of(sentence: str) -> str:
    """What two sentences have in common that say the same: their words, whatever the numbers.

    Args:
        sentence: any.
    """
    return " ".join("#" if word.isdecimal() else word for word in words_of(sentence.casefold()))


def note_sentences(text: str, said: Counter[str]) -> None:
    """Adds the sentences of a text to those that were said.

    Args:
        text: of a part that is there already.
        said: sentences, with how often each was said.
    """
    for each in sentences(text):
        if each.strip():
            said[key_of(each)] += 1


def goes_round(key: str) -> bool:
    """Whether a sentence says the same few words again and again.

    Args:
        key: its words, with a space between them.
    """
    words = key.split()
    runs = Counter(zip(*(words[n:] for n in range(_RUN)), strict=False))
    return bool(runs) and max(runs.values()) >= _TIMES


__all__ = ["Enough", "PartText", "goes_round", "key_of", "note_sentences"]
