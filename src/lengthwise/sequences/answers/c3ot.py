"""C3oT: long and short derivations are learned together, each under a condition.

Kang and others, "C3oT: Generating Shorter Chain-of-Thought without Compromising Effectiveness",
AAAI 2025, arXiv:2412.11664. A compressor shortens each derivation. A model is trained on both, told
apart by a condition in the prompt, and asked under that of the short one:

    question [LONG]  --> long derivation, answer
    question [SHORT] --> short derivation, answer

Each pair gives one example of each, so that both have equally many. A pair whose short derivation
does not say its answer is left out, since it would teach to guess (`filter=false` keeps it).

Ours: the conditions are written as text on a line of their own behind the question, so that no
vocabulary grows and any server can be asked; how the authors write them was not to be had.
`conditions=short` and `conditions=long` write one of both, to hold against. How derivations are
shortened stands in `compress`.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.methods.options import option
from lengthwise.sequences.answers.base import Example, Pair
from lengthwise.sequences.answers.compress import PAPER, says
from lengthwise.sequences.builders.plain import LONGEST

CONDITIONS = {"long": "[LONG]", "short": "[SHORT]"}
UNTRUE = "short derivation without the answer"


@dataclass(frozen=True)
class C3oT:
    """A pair is an example under each condition."""

    name: ClassVar[str] = "c3ot"
    paper: ClassVar[Paper] = PAPER
    fields: ClassVar[tuple[str, ...]] = ("question", "long", "short", "answer")
    optional: ClassVar[tuple[str, ...]] = ()
    document_mask: ClassVar[bool] = True
    target_token: ClassVar[bool] = False

    max_length: int = option(2048, "tokens of a row at most", low=8, high=LONGEST)
    conditions: str = option("both", "what is learned", choices=("both", "long", "short"))
    filter: bool = option(True, "whether pairs go whose short derivation lacks the answer")

    @property
    def tokens(self) -> tuple[str, ...]:
        return ()

    def examples(self, pairs: Seq[Pair], seed: int) -> list[list[Example] | str]:
        kinds = tuple(CONDITIONS) if self.conditions == "both" else (self.conditions,)
        return [
            UNTRUE if self.filter and not says(pair["short"], pair["answer"])
            else [Example(conditioned(pair["question"], kind), f"{pair[kind]}\n{pair['answer']}")
                  for kind in kinds]
            for pair in pairs
        ]  # fmt: skip


def conditioned(question: str, kind: str) -> str:
    """A question under a condition.

    Args:
        question: as it was asked.
        kind: "long" or "short".
    """
    return f"{question}\n{CONDITIONS[kind]}"


__all__ = ["CONDITIONS", "UNTRUE", "C3oT", "conditioned"]
