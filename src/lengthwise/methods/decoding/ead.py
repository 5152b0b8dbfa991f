"""EAD: a larger model takes over while the text is uncertain.

Simonds, "Entropy Adaptive Decoding: Dynamic Model Switching for Efficient Inference", 2025,
arXiv:2502.06833. Two models of one family write one text. Nothing is verified.

    H_t  = -sum_v p_t(v) log2 p_t(v)      of the model that writes token t, before temperature
    mean = the mean of the last `window` H
    the next token is the large model's if mean >= threshold, and the small one's otherwise;
    a model that has written fewer than `hold` tokens in a row goes on

The large model writes the first `first` tokens. Whichever was silent reads what it missed in one
forward, at the positions where it stands. The paper's smallest stay and thresholds were not to be
had: `hold` and `threshold` are ours. It switches above the threshold; here reaching it is enough,
so that 0 is the large model alone.

The held model is the small one, and `model` the large one. The loop runs the held model at each
token, silent or not, which costs little where it is small; were it the large one nothing would be
saved. Two figures tell the cost: active parameters as the paper counts them (one model a token),
and those that were run in truth, with what was read to catch up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.decoding._shared.routing import (
    Routed,
    load_second,
    parameters,
    require_room,
    second_option,
)
from lengthwise.models.adapted_model import AdaptedModel

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.placement import Placement

# Bits that no law over a vocabulary has.
NEVER = 64.0


@dataclass(frozen=True)
class EAD(Method):
    """model: the large one. threshold: bits of mean entropy from which it writes. window, hold,
    first: in tokens."""

    name: ClassVar[str] = "ead"
    question: ClassVar[Question] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Entropy Adaptive Decoding: Dynamic Model Switching for Efficient Inference",
        "Simonds",
        2025,
        arxiv="2502.06833",
    )
    by_path: ClassVar[bool] = False
    model: str = second_option()
    threshold: float = option(1.0, "bits of mean entropy from which the large model writes",
                              low=0, high=NEVER)  # fmt: skip
    window: int = option(5, "entropies that are averaged", low=1)
    hold: int = option(5, "tokens in a row that a model writes at least", low=1)
    first: int = option(5, "tokens at the beginning that are the large model's", low=0)

    @classmethod
    def identity(cls, length: int) -> EAD:
        """The held model alone."""
        return cls(threshold=NEVER, first=0)

    @property
    def idle(self) -> bool:
        """Whether the large model is never asked."""
        return self.threshold == NEVER and not self.first

    def check(self, model: AdaptedModel) -> None:
        if self.model or not self.idle:
            self.load(model)

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        if not self.idle:
            require_room(self, self.load(model), length)

    def load(self, model: AdaptedModel) -> AdaptedModel:
        """The large model; raises Refused or ModelError where there is none to be had."""
        return load_second(self, self.model, model)

    def start_law(self, model: AdaptedModel) -> Switch | None:
        return None if self.idle else Switch(self, model, self.load(model))


def entropy(scores: Tensor) -> float:
    """Bits of the law of scores `[vocab]`, of which some may be minus infinity."""
    logs = torch.log_softmax(scores, -1)
    return float(torch.special.entr(logs.exp()).sum()) / math.log(2)


class Switch(Routed):
    """Chooses who writes by the entropies of the last tokens."""

    def __init__(self, options: EAD, model: AdaptedModel, second: AdaptedModel) -> None:
        super().__init__(options.name, model, second)
        self.options = options
        # Of each token so far its place, the entropy, and whether the large model wrote it.
        self._past: list[tuple[int, float, bool]] = []

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        # What is asked again was not taken.
        while self._past and self._past[-1][0] >= len(written):
            self._past.pop()
        large = self._large()
        found = self.route(large, scores, written)
        self._past.append((len(written), entropy(found), large))
        return found

    def _large(self) -> bool:
        options, past = self.options, self._past
        if not past:
            return options.first > 0 or not options.threshold
        if len(past) < options.first:
            return True
        current = past[-1][2]
        if len(past) < options.hold or any(by != current for _, _, by in past[-options.hold :]):
            return current
        latest = [bits for _, bits, _ in past[-options.window :]]
        return sum(latest) / len(latest) >= options.threshold

    def active(self, share: float) -> float:
        own = parameters(self.model)
        return own + share * (parameters(self.second) - own)


__all__ = ["EAD", "NEVER", "Switch", "entropy"]
