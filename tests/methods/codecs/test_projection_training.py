"""Training of bases: they stay orthogonal, and truncated predictions come nearer."""

from __future__ import annotations

import pytest
import torch

from lengthwise.methods.codecs.projection_training import (
    Training,
    cayley,
    distances,
    drawn,
    train,
)
from lengthwise.methods.codecs.projections import (
    AllBases,
    Reading,
    Truncated,
    heads_of,
    principal,
    ranks_of,
    text_of,
)
from lengthwise.testing.tiny import tiny


def test_cayley_is_orthogonal_and_begins_at_one() -> None:
    found = cayley(torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 3)
    assert float((found.mT @ found - torch.eye(8)).abs().max()) < 1e-5
    assert torch.equal(cayley(torch.zeros(2, 4, 4)), torch.eye(4).expand(2, 4, 4))


def test_training_brings_truncated_predictions_nearer() -> None:
    model = tiny("llama")
    before = principal(model, 256)
    asked = [each.requires_grad for each in model.model.parameters()]
    how = Training(steps=12, length=48, recent=4, rate=0.02, divergence=1.0, loss=0.0, warm=2)
    seen: list[tuple[int, int]] = []
    after = train(model, before, how, lambda done, total: seen.append((done, total)))
    assert seen == [(step + 1, 12) for step in range(12)]
    assert [each.requires_grad for each in model.model.parameters()] == asked
    ids = text_of(model, 48)

    def apart(bases: AllBases) -> float:
        ranks = ranks_of(model, dict.fromkeys(heads_of(model), 1))
        student = Truncated(model, 48, bases, [ranks], recent=4)
        with torch.no_grad():
            return float(distances(model, ids, Reading(model, 48), student)[0])

    assert apart(after) < 0.9 * apart(before)
    for pair in after:
        assert pair is not None
        for bases in pair:
            size = bases.basis.shape[-1]
            assert float((bases.basis.mT @ bases.basis - torch.eye(size)).abs().max()) < 1e-5


def test_ranks_are_drawn_of_eighths_down_to_one() -> None:
    model = tiny("llama")
    layer, draw = model.layers[0], torch.Generator().manual_seed(0)
    found = [rank for _ in range(60) for rank in drawn(model, 8, draw)[0][0]]
    expected = {max(1, layer.head_dim * n // 8) for n in range(1, 9)}
    assert set(found) == expected
    assert drawn(model, 8, torch.Generator().manual_seed(1)) == drawn(
        model, 8, torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_both_losses_are_trained_on(weights: tuple[float, float]) -> None:
    model = tiny("llama")
    before = principal(model, 64)
    how = Training(steps=2, length=32, recent=4, divergence=weights[0], loss=weights[1], warm=1)
    after = train(model, before, how)
    assert after[0] is not None and before[0] is not None
    assert not torch.equal(after[0][0].basis, before[0][0].basis)
    assert torch.equal(after[0][0].mean, before[0][0].mean)
