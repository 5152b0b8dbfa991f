"""SnapKV: the last tokens of a prompt choose what is kept of it.

Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", NeurIPS 2024,
arXiv:2404.14469.

The last prompt tokens already attend to what the answer will need. So their attention decides, once
and before anything is generated, which entries stay. With p the softmax of the model,

    votes_h[j] = sum over the last w queries i of p_h[i, j]
    score[j]   = mean over the query heads h of a group of pool(votes_h)[j]
    kept       = the last w tokens + the best scored of the others, per key head

A prompt within the budget is left whole, as the authors leave it.

Ours: the score is averaged over a group, because its query heads share what is stored. (The
original repeats keys and keeps a set per query head.) Entries keep their original positions. A
budget of T tokens is the bytes of T plain tokens, and the index each head needs is paid out of it.
A share of the prompt, which the original does not know, is never fewer tokens than w + `floor`.

Defaults are those of the paper's LongBench experiments and of their files in the released code: w =
32 and max pooling over 7. Their capacities are 1,024, 2,048 and 4,096. Ours is the one of them that
is the code's own default too. (That code otherwise defaults to average pooling over 5.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.methods.base import Budget, Paper, Question, option
from lengthwise.methods.retention.counting import floor_option, layer_tokens
from lengthwise.methods.retention.votes import VotingMethod

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class SnapKV(VotingMethod):
    """Keeps what the prompt's last queries attend to."""

    name: ClassVar[str] = "snapkv"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "SnapKV: LLM Knows What You are Looking for Before Generation",
        "Li et al.",
        2024,
        arxiv="2404.14469",
        venue="NeurIPS",
        code="https://github.com/FasterDecoding/SnapKV",
    )
    best_known: ClassVar[str] = "snapkv(window=8, kernel=31)"

    budget: Budget = option(Budget(2048), "what each layer keeps of the prompt")
    window: int = option(32, "last prompt tokens that vote, and are always kept", low=1)
    kernel: int = option(7, "neighbours a vote is spread over; odd", low=1)
    pooling: str = option("max", "how it is spread", choices=("avg", "max"))
    floor: int = floor_option()

    @classmethod
    def example(cls) -> SnapKV:
        return cls(budget=Budget(50, "%"), window=8, floor=8)

    @classmethod
    def identity(cls, length: int) -> SnapKV:
        return cls(budget=Budget(length), window=min(32, length))

    def tokens(self, model: AdaptedModel, layer: LayerFacts, length: int, taken: int) -> int:
        return layer_tokens(self.budget, model, length, (taken or self.window) + self.floor)


__all__ = ["SnapKV"]
