"""Bases by PCA, what truncation does, and that texts side by side are read as the model does."""

from __future__ import annotations

import pytest
import torch

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.methods.codecs import projections
from lengthwise.methods.codecs.projection_training import cayley, distances
from lengthwise.methods.codecs.projections import (
    Bases,
    Reading,
    Truncated,
    packed,
    principal,
    ranks_of,
    text_of,
    unpacked,
    whole,
)
from lengthwise.testing.tiny import tiny, tokens


def some_bases(heads: int = 2, size: int = 8) -> Bases:
    chance = torch.Generator().manual_seed(0)
    skewed = torch.randn(heads, size, size, generator=chance)
    return Bases(torch.randn(heads, size, generator=chance), cayley(skewed))


def test_truncation_is_the_projection_on_the_first_columns() -> None:
    bases, x = some_bases(), torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    found = bases.truncated(x, [3, 8])
    for head, rank in enumerate((3, 8)):
        first = bases.basis[head, :, :rank]
        expected = bases.mean[head] + (x[head] - bases.mean[head]) @ first @ first.T
        assert torch.allclose(found[head], expected, atol=1e-5)
    assert torch.allclose(found[1], x[1], atol=1e-5)


def test_pca_is_that_of_the_rotated_keys_and_of_the_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projections, "TEXT", 60)
    model, held = tiny("qwen3"), {}
    ids = text_of(model, 60)

    class Recorder(Sequence):
        def attend(self, layer, query, key, value, metadata):  # type: ignore[no-untyped-def]
            inputs = self.layers[layer]._inputs(query, key, value, metadata)
            held[layer] = inputs.near_key, inputs.value
            return super().attend(layer, query, key, value, metadata)

    prefill(Recorder(model), ids.tolist())
    pair = principal(model, 60)[1]
    assert pair is not None
    for bases, x in zip(pair, held[1], strict=True):
        assert torch.allclose(bases.mean, x.mean(1), atol=1e-4)
        centred = (x - x.mean(1, keepdim=True)).double()
        values = torch.linalg.eigvalsh(centred.mT @ centred / 60).flip(-1)
        spread = (centred @ bases.basis.double()).square().mean(1)
        assert torch.allclose(spread, values, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss"])
def test_texts_side_by_side_are_read_as_the_model_reads_them(family: str) -> None:
    model = tiny(family)
    texts = [tokens(24), tokens(24, seed=1)]
    with torch.no_grad():
        stock = torch.cat([model.model(torch.tensor([ids])).logits[0] for ids in texts])
        ids = torch.tensor(texts).flatten()
        for reading in (Reading(model, 24), Reading(model, 24, start=9)):
            found = model.with_gradients(ids, reading.places(48), reading)
            assert float((found - stock).abs().max()) < 1e-3


def test_windows_of_a_model_stay_whole() -> None:
    model = tiny("gemma2")
    for layer, pair in zip(model.layers, principal(model, 64), strict=True):
        assert (pair is None) == (layer.window is not None)


def test_the_newest_and_the_first_keys_are_seen_whole() -> None:
    model, ids = tiny("llama"), torch.tensor(tokens(24))
    bases = principal(model, 64)
    few = ranks_of(model, dict.fromkeys(projections.heads_of(model), 1))
    with torch.no_grad():
        full = Reading(model, 24)
        for ranks, recent, first, same in (
            (few, 24, 0, True), (few, 0, 24, True), (few, 8, 2, False), (whole(model), 0, 0, True),
        ):  # fmt: skip
            reading = Truncated(model, 24, bases, [ranks], 0, recent, first)
            apart, _ = distances(model, ids, full, reading)
            assert (float(apart) < 1e-6) == same


def test_tensors_come_back_as_they_were_packed() -> None:
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(unpacked(packed(x), x.device), x)
    with pytest.raises(ValueError):
        unpacked({"shape": [2, 3], "data": "AAAA"}, x.device)
