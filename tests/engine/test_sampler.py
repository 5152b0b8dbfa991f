"""What a sampler makes of logits, against the processors of transformers, along texts and trees."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor
from transformers.generation import logits_process as stock

from lengthwise.engine import context_ids
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling

VOCAB = 32


def texts() -> list[list[int]]:
    """A text that grows, with the branches of a draft walked on the way, and beams of it."""
    dice = random.Random(0)
    text, found = [dice.randrange(VOCAB) for _ in range(20)], []
    for _ in range(12):
        for _ in range(3):
            found.append([*text, *(dice.randrange(VOCAB) for _ in range(dice.randrange(4)))])
        text = [*text, dice.randrange(VOCAB)]
        found.append(text)
    return found


@pytest.mark.parametrize("penalty", [1.3, 0.7, 2])
@pytest.mark.parametrize("prompt", [0, 20])
@pytest.mark.parametrize("rules", [[], [stock.NoBadWordsLogitsProcessor([[3, 4], [5]], None)]])
def test_a_penalty_is_that_of_transformers(penalty: float, prompt: int, rules: list[Any]) -> None:
    sampler = Sampler(Sampling(repetition_penalty=penalty), rules)
    sampler.prompt = prompt
    expected = LogitsProcessorList([*rules, RepetitionPenaltyLogitsProcessor(float(penalty))])
    generator = torch.Generator().manual_seed(0)
    for number, text in enumerate(texts()):
        logits = torch.randn(VOCAB, generator=generator)
        logits[number % VOCAB] = -torch.inf
        given = logits.clone()
        ids: Any = torch.tensor([text])
        scores: Any = logits[None].clone()
        assert torch.equal(sampler.process(logits, text), expected(ids, scores)[0])
        # The logits are still what the model said.
        assert torch.equal(logits, given)


def test_a_token_costs_what_changes_and_not_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(Sampling(repetition_penalty=1.2))
    text, sizes = list(range(VOCAB)) * 100, []
    sampler.prompt = len(text)
    counted = context_ids._count

    def count(counts: torch.Tensor, ids: torch.Tensor, by: int) -> None:
        sizes.append(len(ids))
        counted(counts, ids, by)

    monkeypatch.setattr(context_ids, "_count", count)
    for token in range(6):
        sampler.process(torch.zeros(VOCAB), text)
        sampler.process(torch.zeros(VOCAB), [*text, 1, 2])
        text.append(token)
    assert max(sizes[1:]) <= 3 and sizes[0] == VOCAB * 100


def test_draws_and_penalties_go_together() -> None:
    logits = torch.tensor([1.0, 2.5, -3.0, 2.0, 0.5])
    found = Sampler(Sampling(temperature=0.5, top_k=3, repetition_penalty=2.0)).process(
        logits, [1, 1, 2]
    )
    # 2.5 is halved, -3 doubled, all are divided by the temperature, and the best three stay.
    assert found.tolist() == [2.0, 2.5, -torch.inf, 4.0, -torch.inf]
