"""What transformers' own `generate` gives and costs, timed as our decoding is: after its first
round."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.sampling import Sampling
from lengthwise.evaluation.metrics.drafting_rows import Run


class _Marks(StoppingCriteria):
    """Never stops; notes the length and the time at the end of each round of `generate`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.lengths: list[int] = []
        self.times: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        loop.synchronize(self.device)
        self.lengths.append(input_ids.shape[1])
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def stock_run(
    model: Model, prompts: Seq[Seq[int]], new_tokens: int, sampling: Sampling, **options: Any
) -> Run:
    """`generate` of the stock model on prompts padded on the left, with its own noise for samples.

    options: go to its GenerationConfig.
    """
    adapted = model.adapted
    stop = model.stop_ids()
    pad = (stop or [0])[0]
    marks = _Marks(adapted.device)
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in prompts])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
    drawn = sampling.temperature > 0
    if drawn:
        torch.manual_seed(sampling.seed)
        options |= {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        max_new_tokens=new_tokens, do_sample=drawn, num_beams=1, repetition_penalty=1.0,
        use_cache=True, eos_token_id=stop or None, pad_token_id=pad, **options,
    )  # fmt: skip
    generate: Any = adapted.model.generate
    made = generate(ids.to(adapted.device), attention_mask=mask.to(adapted.device),
                    generation_config=config,
                    stopping_criteria=StoppingCriteriaList([marks]))  # fmt: skip
    rows = [_until_stop(row, stop) for row in made[:, longest:].tolist()]
    first = marks.lengths[0] - longest
    lengths = [after - before for before, after in pairwise(marks.lengths)]
    if len(rows) > 1:
        # Without guesses a round is one token for every row that has not stopped.
        lengths = [1] * sum(len(row) - first for row in rows)
    outputs = tuple(tuple(row[:-1] if row and row[-1] in stop else row) for row in rows)
    return Run(sum(lengths), marks.times[-1] - marks.times[0], outputs, tuple(lengths), drawn=drawn)


def _until_stop(row: list[int], stop: Seq[int]) -> list[int]:
    """A row up to its first stop token, which is part of it."""
    for place, token in enumerate(row):
        if token in stop:
            return row[: place + 1]
    return row
