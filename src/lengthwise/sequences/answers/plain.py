"""Answers as they are: plain tuning on pairs, and what other ways are held against."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Papers
from lengthwise.methods.options import option
from lengthwise.sequences.answers.base import Example, Pair
from lengthwise.sequences.builders.plain import LONGEST


@dataclass(frozen=True)
class PlainAnswers:
    """A pair is an example."""

    name: ClassVar[str] = "plain"
    paper: ClassVar[Papers] = None
    fields: ClassVar[tuple[str, ...]] = ("question", "answer")
    optional: ClassVar[tuple[str, ...]] = ()
    document_mask: ClassVar[bool] = True
    target_token: ClassVar[bool] = False

    max_length: int = option(2048, "tokens of a row at most", low=8, high=LONGEST)

    @property
    def tokens(self) -> tuple[str, ...]:
        return ()

    def examples(self, pairs: Seq[Pair], seed: int) -> list[list[Example] | str]:
        return [[Example(each["question"], each["answer"])] for each in pairs]


__all__ = ["PlainAnswers"]
