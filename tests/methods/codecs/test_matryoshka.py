"""MatryoshkaKV: bases, training, the search for ranks, what is stored, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods import calibration
from lengthwise.methods.codecs import matryoshka, projections
from lengthwise.methods.codecs.matryoshka import Matryoshka, MatryoshkaCodec, Side
from lengthwise.methods.codecs.projections import Bases, Reading, cayley
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens


def make(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_bases(heads: int = 2, size: int = 8) -> Bases:
    skewed = torch.randn(heads, size, size, generator=make(0))
    return Bases(torch.randn(heads, size, generator=make(1)), cayley(skewed))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    return tmp_path


# Bases.


def test_cayley_is_orthogonal_and_begins_at_one() -> None:
    found = cayley(torch.randn(3, 8, 8, generator=make(0)) * 3)
    assert float((found.mT @ found - torch.eye(8)).abs().max()) < 1e-5
    assert torch.equal(cayley(torch.zeros(2, 4, 4)), torch.eye(4).expand(2, 4, 4))


def test_truncation_is_the_projection_on_the_first_columns() -> None:
    bases, x = some_bases(), torch.randn(2, 5, 8, generator=make(2))
    found = bases.truncated(x, [3, 8])
    for head, rank in enumerate((3, 8)):
        first = bases.basis[head, :, :rank]
        centred = x[head] - bases.mean[head]
        expected = bases.mean[head] + centred @ first @ first.T
        assert torch.allclose(found[head], expected, atol=1e-5)
    assert torch.allclose(found[1], x[1], atol=1e-5)


def test_pca_is_that_of_the_rotated_keys_and_of_the_values() -> None:
    model, held = tiny("qwen3"), {}
    ids = projections.text_of(model, 60)

    class Recorder(Sequence):
        def attend(self, layer, query, key, value, metadata):  # type: ignore[no-untyped-def]
            inputs = self.layers[layer]._inputs(query, key, value, metadata)
            held[layer] = inputs.near_key, inputs.value
            return super().attend(layer, query, key, value, metadata)

    prefill(Recorder(model), ids.tolist())
    pair = projections.principal(model, 60)[1]
    assert pair is not None
    for bases, x in zip(pair, held[1], strict=True):
        assert torch.allclose(bases.mean, x.mean(1), atol=1e-4)
        centred = (x - x.mean(1, keepdim=True)).double()
        values = torch.linalg.eigvalsh(centred.mT @ centred / 60).flip(-1)
        spread = (centred @ bases.basis.double()).square().mean(1)
        assert torch.allclose(spread, values, atol=1e-3, rtol=1e-3)


def test_texts_side_by_side_are_read_as_the_model_reads_them() -> None:
    for family in ("llama", "gemma2", "gpt_oss"):
        model = tiny(family)
        ids = torch.tensor(tokens(24))
        found = model.differentiable(ids, Reading(model, 24))
        with torch.no_grad():
            stock = model.model(ids[None]).logits[0]
        assert float((found - stock).detach().abs().max()) < 1e-3, family


def test_training_brings_truncated_predictions_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "LEARNING_RATE", 2e-2)
    monkeypatch.setattr(projections, "WINDOW", 48)
    model = tiny("llama")
    before = projections.principal(model, 256)
    asked = [each.requires_grad for each in model.model.parameters()]
    after = projections.train(model, before, 12)
    assert [each.requires_grad for each in model.model.parameters()] == asked
    ranks = projections.ranks_of(model, dict.fromkeys(heads_of(model), 1))
    ids = projections.text_of(model, 48)

    def loss(bases: projections.AllBases) -> float:
        still = [None if p is None else [torch.zeros_like(b.basis) for b in p] for p in bases]
        with torch.no_grad():
            return float(projections._loss(model, bases, still, ids, ranks))

    assert loss(after) < loss(before) - 0.01
    for pair in after:
        assert pair is not None
        for bases in pair:
            size = bases.basis.shape[-1]
            assert float((bases.basis.mT @ bases.basis - torch.eye(size)).abs().max()) < 1e-5


def heads_of(model: AdaptedModel) -> list[tuple[int, int, int]]:
    return [(kind, f.index, head) for kind in (0, 1) for f in model.layers
            for head in range(f.num_kv_heads)]  # fmt: skip


def test_heads_lose_in_the_order_of_what_they_move(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    heads = heads_of(model)
    cost = {head: float(n) for n, head in enumerate(reversed(heads))}
    seen: list[int] = []

    def moved(model: Any, reader: Any, ids: Tensor, tried: list[Any]) -> list[float]:
        base = tried[0]
        seen.append(len(tried) - 1)
        return [next(cost[h] for h in heads if ranks[h[1]][h[0]][h[2]] < base[h[1]][h[0]][h[2]])
                for ranks in tried[1:]]  # fmt: skip

    monkeypatch.setattr(projections, "_moved", moved)
    order = projections.search(model, projections.principal(model, 64))
    assert len(order) == len(heads) * 3
    first = [tuple(each) for each in order[: round(0.75 * len(heads))]]
    assert first == sorted(heads, key=cost.__getitem__)[: len(first)]
    assert all([tuple(each) for each in order].count(head) == 3 for head in heads)
    assert max(seen) <= projections.COPIES


def test_what_moves_is_the_last_hidden_state() -> None:
    model = tiny("llama")
    bases = projections.principal(model, 64)
    reader, ids = projections._Truncated(model, 16, bases), torch.tensor(tokens(16))
    whole = projections.whole(model)
    small = projections.ranks_of(model, dict.fromkeys(heads_of(model), 1))
    nothing, much = projections._moved(model, reader, ids, [whole, whole, small])
    states: list[Tensor] = []
    for ranks in (whole, small):
        reader.ranks = [ranks]
        projections._run(model, ids, reader, 16, states)
    assert nothing < 1e-5
    expected = float((states[1] - states[0]).norm() / states[0].norm())
    assert abs(much - expected) < 1e-4 and much > 0.01


# What is stored.


def test_entries_come_back_as_their_projection() -> None:
    bases = some_bases(), some_bases(size=6)
    key = torch.randn(2, 32, 8, generator=make(3))
    value = torch.randn(2, 32, 6, generator=make(4))
    index = torch.arange(32, dtype=torch.int32)[None]
    codec = MatryoshkaCodec(bases, ([3, 5], [6, 1]), 8)
    first = codec.close(KVEntries(key[:, :20], value[:, :20], index[:, :20]))
    block = first.join(codec.close(KVEntries(key[:, 20:], value[:, 20:], index[:, 20:])))
    assert block.key.shape == (32, 8) and block.value.shape == (32, 7) and len(block) == 32
    found = block.decode()
    assert torch.allclose(found.key, bases[0].truncated(key, [3, 5]), atol=1e-4)
    assert torch.allclose(found.value, bases[1].truncated(value, [6, 1]), atol=1e-4)
    assert torch.equal(found.index, index)
    assert codec.entry_bytes(2, 8, 6) == 15 * 2 + 4


def test_one_matrix_does_what_the_heads_do() -> None:
    bases, x = some_bases(3), torch.randn(3, 4, 8, generator=make(5))
    side = Side.of(bases, [8, 8, 8])
    assert torch.allclose(side.decode(side.encode(x)), x, atol=1e-4)


def made(model: AdaptedModel) -> dict[str, Any]:
    """PCA's bases, whose heads lose values before keys, the last layer first."""
    order = [list(head) for _ in range(3) for head in reversed(heads_of(model))]
    return matryoshka._made(projections.principal(model, 64), order)


def test_shares_are_shares_of_the_numbers(cache: Path) -> None:
    model = adapt(tiny_model("llama"))
    calibration.save("matryoshka", model, made(model))
    whole = sum(layer.entry_numbers for layer in model.layers)
    for share in (0.25, 0.4, 0.6, 0.9):
        plan = resolve(f"matryoshka(share={share})", model)
        assert plan.codec is not None
        codecs = [plan.codec(layer) for layer in model.layers]
        held = sum(codec.numbers for codec in codecs if isinstance(codec, MatryoshkaCodec))
        assert share - 0.07 < held / whole <= share + 1e-6, share


def test_what_is_held_is_what_was_promised(cache: Path) -> None:
    model = adapt(tiny_model("llama"))
    calibration.save("matryoshka", model, made(model))
    method = Matryoshka(share=0.5, residual=8)
    sequence = Sequence(model, resolve([method], model))
    prefill(sequence, tokens(80))
    sequence.end_prefill()
    expected = sum(method.bytes_per_token(f, torch.float32, 80) * 80 for f in model.layers)
    assert abs(sequence.nbytes() - expected) < 0.03 * expected
    full = Sequence(model)
    prefill(full, tokens(80))
    full.end_prefill()
    logits = [teacher_force(s, tokens(8, seed=1)) for s in (sequence, full)]
    assert float((logits[0] - logits[1]).abs().max()) > 1e-4


# What is refused.


def test_bases_are_of_their_model_and_version(cache: Path) -> None:
    model = adapt(tiny_model("llama"))
    with pytest.raises(Refused, match="lengthwise calibrate matryoshka"):
        resolve("matryoshka", model)
    calibration.save("matryoshka", model, {**made(model), "version": 0})
    with pytest.raises(Refused, match="another version"):
        resolve("matryoshka", model)
    calibration.save("matryoshka", model, made(model))
    resolve("matryoshka", model)
    with pytest.raises(Refused, match="lengthwise calibrate matryoshka"):
        resolve("matryoshka", adapt(tiny_model("llama", seed=7)))


def test_what_cannot_run_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapt(tiny_model("llama"))
    for recipe, said in (
        ("razor(buffer=8)", "keeps them apart"), ("kivi", "how keys and values are stored"),
        ("think", "how keys and values are stored"), ("dynamic_ntk", "turns them"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=said):
            resolve(f"matryoshka(trained=false) + {recipe}", model)
    with pytest.raises(RecipeError, match="share"):
        Matryoshka(share=0.1)
    monkeypatch.setattr(matryoshka, "SMALL", 0)
    with pytest.raises(Refused, match="lengthwise calibrate matryoshka"):
        resolve("matryoshka(trained=false)", adapt(tiny_model("llama", seed=9)))
