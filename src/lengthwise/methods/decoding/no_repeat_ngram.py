"""no_repeat_ngram: no n tokens in a row are written twice.

Paulus et al., "A Deep Reinforced Model for Abstractive Summarization", 2017, arXiv:1705.04304: a
token that would repeat a trigram of the text is forbidden.

    forbidden = tokens that followed the newest size - 1 tokens somewhere before

The meaning is that of transformers' `no_repeat_ngram_size`: the n-grams of the prompt count, those
across its end too, and stop tokens are tokens like any other. Ours keeps an index of the text that
was shown last, where transformers goes through the whole text at every token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.context_ids import common
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import ConstraintError
from lengthwise.methods.base import Method, Paper, Question, option

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class NoRepeatNgram(Method):
    """size: tokens in a row that are not written again."""

    name: ClassVar[str] = "no_repeat_ngram"
    question: ClassVar[str] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "A Deep Reinforced Model for Abstractive Summarization", "Paulus et al.", 2017,
        arxiv="1705.04304",
    )  # fmt: skip
    size: int = option(3, "tokens in a row that are not written again", low=1)

    @classmethod
    def identity(cls, length: int) -> NoRepeatNgram:
        """No text is that long."""
        return cls(size=2 * length + 64)

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        return NoRepeatLaw(self.name, self.size)


class NoRepeatLaw(NextTokenLaw):
    """Forbids what followed the newest tokens before.

    A text goes on by a token, and a guess or another beam takes it back to where they part: what
    was counted of its end is taken off again.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name, self._size = name, size
        # What followed so many tokens in a row, and how often.
        self._followed: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
        self._text: list[int] = []
        self._prompt = 0

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        self._followed.clear()
        self._text = []
        for token in sequence.tokens:
            self._add(token)
        self._prompt = len(self._text)

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        self._go(written)
        newest = self._newest()
        if len(newest) < self._size - 1:
            return scores
        scores[sorted(self._followed.get(newest, ()))] = -torch.inf
        if not bool(scores.isfinite().any()):
            raise ConstraintError(
                f"{self.name}: nothing may follow token {len(written)}: every token would repeat "
                f"{self._size} in a row; give a larger size"
            )
        return scores

    def _go(self, written: Seq[int]) -> None:
        """Goes over to another text behind the prompt."""
        same = common(self._text[self._prompt :], written)
        while len(self._text) > self._prompt + same:
            self._take()
        for token in written[same:]:
            self._add(token)

    def _newest(self) -> tuple[int, ...]:
        """The last size - 1 tokens, or all where there are fewer."""
        return tuple(self._text[max(0, len(self._text) - self._size + 1) :])

    def _add(self, token: int) -> None:
        if len(self._text) >= self._size - 1:
            followed = self._followed[self._newest()]
            followed[token] = followed.get(token, 0) + 1
        self._text.append(token)

    def _take(self) -> None:
        token = self._text.pop()
        if len(self._text) >= self._size - 1:
            followed = self._followed[self._newest()]
            followed[token] -= 1
            if not followed[token]:
                del followed[token]


__all__ = ["NoRepeatLaw", "NoRepeatNgram"]
