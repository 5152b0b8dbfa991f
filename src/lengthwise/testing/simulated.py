"""Models that are no models: what they say is known, so that what is made of it can be checked."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence as Seq

_ITEM = re.compile(r"^\[(\d+)\] (.*)$", re.M)
_TOKEN = re.compile(r"\S+\s*")


class PositionBiased:
    """A text model that labels items, and errs by where they stand in the prompt.

    What it says of an item hangs on the item and on its place alone: the same order has the same
    errors. A token is a word.

    truth: the label of each text. labels: those there are. error: the share of wrong labels at a
    place from 0 (first) to 1 (last). sure: how often it is confident where it is right, and where
    it is wrong. mute: share of lines that are missing. seed: of all draws.
    """

    name = "position-biased"
    trained_length = 1 << 20

    def __init__(
        self, truth: Mapping[str, str], labels: Seq[str], error: Callable[[float], float],
        sure: tuple[float, float] = (0.9, 0.5), mute: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.truth, self.labels, self.error = truth, list(labels), error
        self.sure, self.mute, self.seed = sure, mute, seed
        self.calls = 0

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each word of a text stands in it.

        Args:
            text: any.
        """
        return [found.span() for found in _TOKEN.finditer(text)]

    def count(self, text: str) -> int:
        """Words of a text.

        Args:
            text: any.
        """
        return len(self.spans(text))

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        """A line for each item of the question.

        Args:
            text: not read.
            question: with items, `[1] ...` a line.
            max_new_tokens: not kept to.
            stream: gets the answer.
        """
        self.calls += 1
        items = _ITEM.findall(question)
        lines = (self._line(int(number), item, len(items)) for number, item in items)
        said = "\n".join(line for line in lines if line)
        if stream is not None:
            stream(said)
        return said

    def _line(self, number: int, item: str, count: int) -> str:
        draw = random.Random(f"{self.seed}/{item}/{number}/{count}")
        if draw.random() < self.mute:
            return ""
        wrong = draw.random() < self.error((number - 1) / max(1, count - 1))
        label = self.truth[item]
        if wrong:
            label = draw.choice([each for each in self.labels if each != label])
        sure = draw.random() < self.sure[wrong]
        return f"{number}: {label}, {'confident' if sure else 'not confident'}"


__all__ = ["PositionBiased"]
