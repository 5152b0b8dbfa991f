"""Choosing the next token: greedy, or sampled with noise that belongs to a position, not to a
moment.

A sample is `argmax(log p + Gumbel noise)` with noise drawn from (seed, position of the token). The
law is that of ordinary sampling, and the token chosen at a position does not depend on whether
drafting found it early, so drafted and plain sampling give the same text for the same seed.
Processors are those of transformers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import FloatTensor, LongTensor, Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lengthwise.errors import LengthwiseError


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy, and the least above it 1e-30. top_k 0, top_p 1, min_p 0 and
    repetition_penalty 1 do nothing."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (0.0, float("inf")), "top_k": (0, float("inf")), "top_p": (0.0, 1.0),
            "min_p": (0.0, 1.0), "repetition_penalty": (1e-6, float("inf")),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise LengthwiseError(
                    f"{name}={getattr(self, name)}: allowed is {low:g} to {high:g}"
                )
        # Logits divided by less would overflow to infinity and choose token 0 of them all.
        if 0 < self.temperature < LEAST:
            raise LengthwiseError(
                f"temperature={self.temperature}: allowed is 0, which is greedy, or {LEAST:g} up"
            )
        if not float(self.top_k).is_integer():
            raise LengthwiseError(f"top_k={self.top_k}: allowed are whole numbers, 0 for all")

    @property
    def plain(self) -> bool:
        """Greedy over untouched logits: an argmax is all there is to do."""
        return self.temperature == 0 and self.repetition_penalty == 1

    def processors(self) -> LogitsProcessorList:
        found = LogitsProcessorList()
        if self.repetition_penalty != 1:
            found.append(RepetitionPenaltyLogitsProcessor(float(self.repetition_penalty)))
        if self.temperature == 0:
            return found
        if self.temperature != 1:
            found.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k:
            found.append(TopKLogitsWarper(int(self.top_k)))
        if self.top_p < 1:
            found.append(TopPLogitsWarper(self.top_p))
        if self.min_p:
            found.append(MinPLogitsWarper(self.min_p))
        return found


# The least temperature above 0.
LEAST = 1e-30

# From this stream on, noise is the drafters' own: the target's choices know nothing of it.
DRAWN = 1 << 20


def streams(name: str) -> int:
    """The first of DRAWN streams of noise for a drafter of this name: two drafters that drew with
    the same noise would not draw independently, as verification by rejection supposes."""
    return DRAWN * (1 + zlib.crc32(name.encode()) % 1021)


def likeliest(logits: Tensor) -> list[int]:
    """The token of the largest logit of every row of `[rows, vocab]`; of equal ones the first.

    On a CPU numpy finds it in float32 5 to 20 times faster than PyTorch does, which takes 0.17 ms a
    row of 49,152 in bfloat16: 16 guesses would wait 2.6 ms for their verdict.
    """
    if logits.device.type == "cpu":
        best: list[int] = logits.float().numpy().argmax(-1).tolist()
        return best
    return [int(each) for each in logits.argmax(-1).tolist()]


class Sampler:
    """Chooses tokens of one sequence under a `Sampling`."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._processors = sampling.processors()
        self._generator = torch.Generator()

    def process(self, logits: Tensor, context: Sequence[int]) -> Tensor:
        """Logits `[vocab]` of the token after context, processed, float32."""
        scores = logits.float()[None]
        if self._processors:
            # The penalty alone looks at the context; a long one costs time to hand over.
            known = list(context) if self.sampling.repetition_penalty != 1 else [0]
            ids = torch.tensor([known], device=logits.device)
            scores = self._processors(cast(LongTensor, ids), cast(FloatTensor, scores))
        return scores[0]

    def choose(self, logits: Tensor, context: Sequence[int]) -> int:
        """The token that follows context; logits `[vocab]` are the model's own."""
        if self.sampling.plain:
            return likeliest(logits[None])[0]
        scores = self.process(logits, context)
        if self.sampling.temperature == 0:
            return int(scores.argmax())
        return int((torch.log_softmax(scores, -1) + self._noise(len(context), scores)).argmax())

    def law(self, logits: Tensor, context: Sequence[int]) -> Tensor:
        """Probabilities `[vocab]` of the token after context, float64 on the CPU."""
        return torch.softmax(self.process(logits, context).to("cpu", torch.float64), -1)

    def draw(self, law: Tensor, position: int) -> int:
        """A token of a law `[vocab]`, by the noise of its position."""
        return int((law.log() + self._noise(position, law)).argmax())

    def coin(self, position: int, number: int) -> float:
        """Uniform in [0, 1): the number-th coin of a position, independent of its noise."""
        self._key(position, 1 + number)
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))

    def perturbed(self, law: Tensor, position: int, stream: int = 0) -> Tensor:
        """log law + Gumbel noise `[vocab]`: its largest entries, in order, are draws without
        replacement. Stream 0 is the noise that the target's own choice at this position will use:
        drafts that take it are likely to guess that choice, and are guesses, not draws, which take
        a stream from DRAWN on."""
        return law.log() + self._noise(position, law, stream)

    def _key(self, position: int, stream: int) -> None:
        mixed = self.sampling.seed * 0x9E3779B1 + position + stream * 0x9E3779B97F4A7C15
        self._generator.manual_seed(mixed & (2**63 - 1))

    def _noise(self, position: int, like: Tensor, stream: int = 0) -> Tensor:
        """Gumbel noise `[vocab]` keyed by the seed, the position and a stream."""
        self._key(position, stream)
        uniform = torch.rand(len(like), generator=self._generator, dtype=torch.float64)
        noise = -torch.log(-torch.log(uniform.clamp_(1e-300, 1 - 1e-16)))
        return noise.to(like.device, torch.promote_types(like.dtype, torch.float32))
