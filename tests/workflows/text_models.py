"""Text models whose words are known: what they are asked is kept."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from lengthwise.errors import LengthwiseError

_TOKEN = re.compile(r"\S+\s*")


class Words:
    """A text model whose tokens are words. trained_length, name: its own.

    It answers a request for a plan with `plan`, one for headings with `headings`, and one for a
    part with `part`, whose default is sentences that it never says twice.
    """

    name = "words"

    def __init__(
        self, plan: str = "", headings: str = "", part: Callable[[int, str], str] | None = None,
        trained_length: int = 100_000, streams: bool = True, pause: float = 0.0,
    ) -> None:  # fmt: skip
        self.plan, self.headings, self.part = plan, headings, part or self._new
        self.trained_length, self.streams, self.pause = trained_length, streams, pause
        self.asked: list[tuple[str, int]] = []

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [found.span() for found in _TOKEN.finditer(text)]

    def count(self, text: str) -> int:
        return len(self.spans(text))

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        assert not text
        self.asked.append((question, max_new_tokens))
        time.sleep(self.pause)
        if "Plan it, and do not write" in question:
            answer = self.plan
        elif question.rpartition("\n")[2].startswith("List "):
            answer = self.headings
        else:
            answer = self.part(max_new_tokens, question)
        answer = "".join(_TOKEN.findall(answer)[:max_new_tokens])
        for piece in _pieces(answer) if stream is not None and self.streams else ():
            assert stream is not None
            stream(piece)
        return answer.strip()

    def parts_asked(self) -> list[str]:
        """The prompts for parts."""
        return [prompt for prompt, _ in self.asked if "Now write part" in prompt]

    @staticmethod
    def _new(tokens: int, question: str) -> str:
        """Sentences of ten words, each with a word that follows on the last one of the prompt."""
        before = re.findall(r"This is x([a-j]+) of all things", question)
        said = int("".join(str(ord(each) - 97) for each in before[-1])) if before else 0
        return "".join(
            f"This is {letters(said + n)} of all things that can be said here. "
            for n in range(1, tokens // 10 + 2)
        )


class Failing(Words):
    """Fails at a call: the first is 1."""

    def __init__(self, at: int, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.at = at

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        if len(self.asked) + 1 == self.at:
            raise LengthwiseError("the server has gone")
        return super().write(text, question, max_new_tokens, stream)


def letters(number: int) -> str:
    """A word for a number, with no digit in it."""
    return "x" + "".join(chr(97 + int(digit)) for digit in str(number))


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of three letters: no model cares for words."""
    for start in range(0, len(text), 3):
        yield text[start : start + 3]
