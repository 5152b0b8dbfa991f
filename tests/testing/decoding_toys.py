"""Decoders that are broken, each in one way, and sound ones beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.decoding_mode import Alternative
from lengthwise.methods.decoding._shared.beams import BeamGroup, BeamSearch, by_length
from lengthwise.plugin import AdaptedModel, DecodingMode, Method, NextTokenLaw, Question


def deciding(make: Callable[[], NextTokenLaw], identity: bool = False) -> type[Method]:
    """A method with this law, which it calls its identity where that is said."""

    @dataclass(frozen=True)
    class Deciding(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.DECODING
        paper = None

        @classmethod
        def identity(cls, length: int) -> Method | None:
            return cls() if identity else None

        def start_law(self, model: AdaptedModel) -> NextTokenLaw:
            return make()

    return Deciding


def searching(make: Callable[[], Any]) -> type[Method]:
    """A method that writes so."""

    @dataclass(frozen=True)
    class Searching(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.DECODING
        paper = None

        def start_mode(self, model: AdaptedModel) -> DecodingMode:
            mode: DecodingMode = make()
            return mode

    return Searching


def half(scores: Tensor, odd: int) -> Tensor:
    """Forbids the tokens of one half."""
    return scores.masked_fill(torch.arange(len(scores)) % 2 == odd % 2, float("-inf"))


class Halving(NextTokenLaw):
    """Allows one half of the tokens, then the other."""

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        return half(scores, len(written))


class Counting(NextTokenLaw):
    """Goes by how often it was asked, which is once a token where nobody guesses."""

    def __init__(self) -> None:
        self.asked = 0

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        self.asked += 1
        return half(scores, self.asked // 2)


class Shared(NextTokenLaw):
    """Goes by how many requests there were."""

    begun: ClassVar[int] = 0

    def begin(self, *_: object) -> None:
        Shared.begun += 1

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        return half(scores, Shared.begun)


def beams() -> BeamSearch:
    """Three beams."""
    return BeamSearch("toy", lambda limit: [BeamGroup(3, by_length(1.0), False, limit)])


class Backwards(BeamSearch):
    """Gives its texts the worst first."""

    def alternatives(self) -> list[Alternative]:
        return super().alternatives()[::-1]


def backwards() -> BeamSearch:
    """Three beams, told backwards."""
    return Backwards("toy", lambda limit: [BeamGroup(3, by_length(1.0), False, limit)])


class Narrow(BeamSearch):
    """Says that it holds one text."""

    @property
    def width(self) -> int:
        return 1


def narrow() -> BeamSearch:
    """Three beams, of which one is told."""
    return Narrow("toy", lambda limit: [BeamGroup(3, by_length(1.0), False, limit)])
