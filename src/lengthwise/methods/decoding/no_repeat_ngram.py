"""no_repeat_ngram: no n tokens in a row are written twice.

Paulus et al., "A Deep Reinforced Model for Abstractive Summarization", 2017, arXiv:1705.04304: a
token that would repeat a trigram of the text is forbidden.

    forbidden = tokens that followed the newest size - 1 tokens somewhere before

The meaning is that of transformers' `no_repeat_ngram_size`: the n-grams of the prompt count, those
across its end too, and stop tokens are tokens like any other. Ours indexes the prompt once, where
transformers goes through the whole text at every token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

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
    """Forbids what followed the newest tokens before."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self._size = name, size
        self._followed: dict[tuple[int, ...], set[int]] = defaultdict(set)
        self._end: list[int] = []

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        prompt = list(sequence.tokens)
        self._end = prompt[max(0, len(prompt) - self._size + 1) :]
        self._followed.clear()
        for key, token in _grams(prompt, self._size):
            self._followed[key].add(token)

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        text = [*self._end, *written]
        newest = tuple(text[len(text) - self._size + 1 :])
        if len(newest) < self._size - 1:
            return scores
        forbidden = {token for key, token in _grams(text, self._size) if key == newest}
        forbidden |= self._followed.get(newest, set())
        scores[sorted(forbidden)] = -torch.inf
        if not bool(scores.isfinite().any()):
            raise ConstraintError(
                f"{self.name}: nothing may follow token {len(written)}: every token would repeat "
                f"{self._size} in a row; give a larger size"
            )
        return scores


def _grams(text: Seq[int], size: int) -> list[tuple[tuple[int, ...], int]]:
    """Every `size` tokens in a row: all but the last, and the last."""
    return [
        (tuple(text[at : at + size - 1]), text[at + size - 1]) for at in range(len(text) - size + 1)
    ]


__all__ = ["NoRepeatLaw", "NoRepeatNgram"]
