"""Given tokens fed as decoding would, alone and for several sequences at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.forced import forced, forced_together
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import LengthwiseError
from lengthwise.recipes import plan_of
from lengthwise.testing.tiny import tiny, tokens


def read(recipe: str, count: int, seed: int) -> Sequence:
    model = tiny("llama")
    sequence = Sequence(model, plan_of(recipe, model))
    loop.prefill(sequence, tokens(count, seed))
    sequence.end_prefill()
    return sequence


@pytest.mark.parametrize("recipe", ["full", "h2o(budget=24)", "streaming(sinks=2, window=24)",
                                    "kivi(bits=4, group=8, residual=16)"])  # fmt: skip
def test_several_sequences_get_what_each_gets_alone(recipe: str) -> None:
    rows = [(40, 9), (12, 1), (30, 30), (21, 0)]
    alone = [
        list(forced(read(recipe, read_, seed), tokens(fed, seed + 9)))
        for seed, (read_, fed) in enumerate(rows)
    ]
    together: list[list[Tensor]] = [[] for _ in rows]
    given = [
        (read(recipe, read_, seed), tokens(fed, seed + 9)) for seed, (read_, fed) in enumerate(rows)
    ]
    for number, logits in forced_together(given):
        together[number].append(logits)
    assert not alone[3] and not together[3]
    for one, other, (_, fed) in zip(alone[:3], together[:3], rows[:3], strict=True):
        assert len(torch.cat(other)) == fed
        assert torch.allclose(torch.cat(one), torch.cat(other), atol=1e-4)
    # The last token of each is predicted and not fed.
    assert [len(sequence) for sequence, _ in given] == [40 + 8, 12, 30 + 29, 21]


def test_a_prompt_that_was_not_ended_is_refused() -> None:
    model = tiny("llama")
    sequence = Sequence(model, plan_of("full", model))
    loop.prefill(sequence, tokens(8))
    with pytest.raises(LengthwiseError, match="read and ended"):
        list(forced_together([(sequence, [5])]))
