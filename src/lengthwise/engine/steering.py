"""What transformers' `generate` hands over for one row: its processors and stopping criteria.

They are functions of the ids so far and of scores, batch by batch. Here every row is asked alone,
at each token it says, with the ids that stock would show at that moment: padding, prompt and text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import FloatTensor, LongTensor, Tensor
from transformers import (
    EosTokenCriteria,
    LogitsProcessorList,
    MaxLengthCriteria,
    MaxTimeCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)
from transformers.generation import logits_process as stock

from lengthwise.engine.context_ids import ContextIds

# What treats each row by itself, whatever its number: it is handed one. Others may hold something
# for every row of the batch, and are handed as many.
ALONE: tuple[type, ...] = (
    EosTokenCriteria, MaxLengthCriteria, MaxTimeCriteria, StopStringCriteria,
    stock.MinLengthLogitsProcessor, stock.MinNewTokensLengthLogitsProcessor,
    stock.TemperatureLogitsWarper, stock.TopPLogitsWarper, stock.TopKLogitsWarper,
    stock.TopHLogitsWarper, stock.MinPLogitsWarper, stock.TypicalLogitsWarper,
    stock.EpsilonLogitsWarper, stock.EtaLogitsWarper, stock.NoRepeatNGramLogitsProcessor,
    stock.SequenceBiasLogitsProcessor, stock.NoBadWordsLogitsProcessor,
    stock.ForcedBOSTokenLogitsProcessor, stock.ForcedEOSTokenLogitsProcessor,
    stock.InfNanRemoveLogitsProcessor, stock.ExponentialDecayLengthPenalty,
    stock.LogitNormalization, stock.SuppressTokensAtBeginLogitsProcessor,
    stock.SuppressTokensLogitsProcessor, stock.WatermarkLogitsProcessor,
)  # fmt: skip


@dataclass
class Steering:
    """shown: ids of the row as `generate` was given them, padding included; prompt: how many of
    them are the prompt. row: its number among `rows`. record: keep scores and logits.

    scores, logits: float32 `[vocab]` by position of the token in the sequence, where recorded.
    """

    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    shown: list[int]
    prompt: int
    row: int = 0
    rows: int = 1
    record: bool = False
    scores: dict[int, Tensor] = field(default_factory=dict)
    logits: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known, self._text = list(self.shown), ContextIds()

    def process(self, logits: Tensor, context: Sequence[int]) -> Tensor:
        """Scores `[vocab]` of the token after context, from the model's logits `[vocab]`."""
        ids = self._ids(context[self.prompt :], logits.device)
        # Processors may write in place, and the logits are still wanted as they are.
        scores = logits.to(torch.float32, copy=True)[None]
        for processor in self.processors:
            count = self._count(processor)
            found = LogitsProcessorList([processor])(
                cast(LongTensor, ids.expand(count, -1)),
                cast(FloatTensor, scores if count == 1 else scores.repeat(count, 1)),
            )
            scores = found[self.row : self.row + 1] if count > 1 else found
        if self.record:
            self.scores[len(context)] = scores[0].clone()
            self.logits[len(context)] = logits.to(torch.float32, copy=True)
        return scores[0]

    def stops(self, output: Sequence[int], device: torch.device) -> bool:
        """Whether a criterion ends the row after the new tokens `output`."""
        ids = self._ids(output, device) if self.criteria else None
        scores = None
        if self.record and self.criteria:
            places = range(self.prompt, self.prompt + len(output))
            scores = tuple(self.scores[place][None] for place in places)
        for criterion in self.criteria:
            count = self._count(criterion)
            assert ids is not None
            given = scores if count == 1 or scores is None else _repeat(scores, count)
            done = criterion(cast(LongTensor, ids.expand(count, -1)), given)
            if isinstance(done, Tensor) and done.numel() > 1:
                done = done.reshape(-1)[self.row]
            if bool(done):
                return True
        return False

    def _count(self, asked: Any) -> int:
        return 1 if type(asked) in ALONE else self.rows

    def _ids(self, new: Sequence[int], device: torch.device) -> Tensor:
        # They may be long: what stays of them is not made into a tensor again. Whoever is shown
        # them may keep them, and gets a copy.
        self._known[len(self.shown) :] = new
        self._text.follow(self._known, len(self.shown), device)
        return self._text.ids.clone()[None]


def _repeat(scores: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    return tuple(each.expand(count, -1) for each in scores)
