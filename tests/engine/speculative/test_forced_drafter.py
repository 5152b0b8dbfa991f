"""What a law says must follow is guessed where a recipe guesses, and changes no text."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.plugin import AdaptedModel, Method, NextTokenLaw, Question, Sampling
from lengthwise.recipes import parse
from lengthwise.testing.tiny import tiny_model, tokens

# Every token of a text of this law but each fourth one.
SAYS = [11, 12, 13]


@dataclass(frozen=True)
class Refrain(Method):
    name: ClassVar[str] = "refrain"
    question: ClassVar[Question] = Question.DECODING
    paper = None

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        return _Refrain()


class _Refrain(NextTokenLaw):
    def check(self, sampling: Sampling) -> None:
        if sampling.top_p != 1:
            raise LengthwiseError("refrain takes no top_p")

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        for token in self.forced(written)[:1]:
            kept = torch.full_like(scores, -torch.inf)
            kept[token] = 0
            return kept
        return scores

    def forced(self, written: Seq[int]) -> Seq[int]:
        return SAYS[len(written) % 4 :]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_it_is_guessed_beside_a_drafter(temperature: float) -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15))
    asked = {"max_new_tokens": 24, "stop_ids": [], "temperature": temperature, "seed": 2}
    plain = model.generate(tokens(40), [Refrain()], **asked)
    drafted = model.generate(tokens(40), [*parse("lookup + fixed(nodes=8)").methods, Refrain()],
                             **asked)  # fmt: skip
    assert drafted.token_ids == plain.token_ids
    assert plain.metrics.steps == 23 and drafted.metrics.steps <= 12
    assert drafted.metrics.accepted.get("forced", 0) >= 3


def test_without_a_drafter_nobody_guesses() -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15))
    found = model.generate(tokens(40), [Refrain()], max_new_tokens=9, stop_ids=[])
    assert not found.metrics.accepted and not found.metrics.drafted


def test_a_law_refuses_a_sampling_before_anything_is_read() -> None:
    model = lengthwise.wrap(tiny_model("llama"))
    read: list[int] = []
    with pytest.raises(LengthwiseError, match="takes no top_p"):
        model.generate(tokens(40), [Refrain()], temperature=1.0, top_p=0.5, progress=read.append)
    assert not read
