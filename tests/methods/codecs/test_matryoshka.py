"""MatryoshkaKV: what is stored, at which ranks, what is held, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods import calibration
from lengthwise.methods.codecs import learned_bases
from lengthwise.methods.codecs.learned_bases import keep_bases, stored
from lengthwise.methods.codecs.matryoshka import Matryoshka, MatryoshkaBlock, MatryoshkaCodec, Side
from lengthwise.methods.codecs.projections import Bases, heads_of, principal
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens
from tests.methods.codecs.test_projections import some_bases

UPDATE: CacheUpdate = CacheUpdate(Phase.DECODE, None, None)  # type: ignore[arg-type]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    return tmp_path


def made(model: AdaptedModel) -> dict[str, Any]:
    """PCA's bases, whose heads lose values before keys, the last layer first."""
    order = [list(head) for _ in range(3) for head in reversed(heads_of(model))]
    return stored(principal(model, 64), order)


def entries(count: int, key: int = 8, value: int = 6) -> KVEntries:
    chance = torch.Generator().manual_seed(3)
    return KVEntries(
        torch.randn(2, count, key, generator=chance),
        torch.randn(2, count, value, generator=chance),
        torch.arange(count, dtype=torch.int32)[None],
    )


# What is stored.


@pytest.mark.parametrize("spared", [0, 5])
def test_entries_come_back_as_their_projection(spared: int) -> None:
    bases, ranks = (some_bases(), some_bases(size=6)), ([3, 5], [6, 1])
    key, value = (Side.of(*each) for each in zip(bases, ranks, strict=True))
    codec, given = MatryoshkaCodec((key, value), 8, spared), entries(32)
    first = codec.first(given.slice(0, 20), given, UPDATE)
    block = first.join(codec.more(given.slice(20, 32), first))
    assert block.key.shape == (32 - spared, 8) and block.value.shape == (32 - spared, 7)
    found = block.decode()
    assert len(block) == len(found) == 32 and torch.equal(found.index, given.index)
    assert torch.equal(block.index, given.index)
    for each, whole, projected in (
        (found.key, given.key, bases[0].truncated(given.key, [3, 5])),
        (found.value, given.value, bases[1].truncated(given.value, [6, 1])),
    ):
        assert torch.equal(each[:, :spared], whole[:, :spared])
        assert torch.allclose(each[:, spared:], projected[:, spared:], atol=1e-4)


def test_all_coordinates_are_the_entry() -> None:
    side, x = Side.of(some_bases(), [8, 8]), entries(4).key
    assert torch.allclose(side.decode(side.encode(x)), x, atol=1e-4)


def test_some_heads_are_encoded_as_with_the_others() -> None:
    bases, given = some_bases(3), torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(5))
    side, ids = Side.of(bases, [3, 5, 2]), torch.tensor([2, 1])
    some = side.heads(ids)
    assert len(some.kept) == 7
    expected = side.decode(side.encode(given))[ids]
    assert torch.allclose(some.decode(some.encode(given[ids])), expected, atol=1e-5)


# Ranks and bytes.


def test_shares_are_shares_of_the_numbers(cache: Path) -> None:
    model = adapt(tiny_model("llama"))
    keep_bases(model, made(model))
    whole = sum(layer.entry_numbers for layer in model.layers)
    part = 0.25 / len(heads_of(model))
    for share in (0.25, 0.4, 0.6, 0.9):
        for searched in (True, False):
            method = Matryoshka(share=share, searched=searched)
            codecs = [method.start_codec(layer) for layer in model.layers]
            held = sum(each.numbers for each in codecs if each is not None) / whole
            assert abs(held - share) <= (part / 2 if searched else 0.01) + 1e-6


def test_searched_ranks_follow_the_order_of_losses(cache: Path) -> None:
    model = adapt(tiny_model("llama"))
    keep_bases(model, made(model))
    heads = heads_of(model)
    found = [learned_bases.bases_of(layer, True).searched(0.75) for layer in model.layers]
    sizes = [[layer.head_dim, layer.value_dim] for layer in model.layers]
    lost = [h for h in heads if found[h[1]][h[0]][h[2]] < sizes[h[1]][h[0]]]
    # The first round takes a part of each, which is all that a quarter comes to.
    assert lost == heads
    half = [learned_bases.bases_of(layer, True).searched(0.875) for layer in model.layers]
    spared = [h for h in heads if half[h[1]][h[0]][h[2]] == sizes[h[1]][h[0]]]
    assert spared == heads[: len(heads) // 2] and all(kind == 0 for kind, _, _ in spared)


@pytest.mark.parametrize("first", [0, 4])
def test_what_is_held_is_what_was_promised(cache: Path, first: int) -> None:
    model = adapt(tiny_model("llama"))
    keep_bases(model, made(model))
    method = Matryoshka(share=0.5, residual=8, first=first)
    sequence = Sequence(model, resolve([method], model))
    prefill(sequence, tokens(80))
    sequence.end_prefill()
    expected = sum(method.bytes_per_token(f, torch.float32, 80) * 80 for f in model.layers)
    assert sequence.nbytes() == pytest.approx(expected, rel=0.001)
    full = Sequence(model)
    prefill(full, tokens(80))
    full.end_prefill()
    logits = [teacher_force(s, tokens(8, seed=1)) for s in (sequence, full)]
    assert float((logits[0] - logits[1]).abs().max()) > 1e-4


@pytest.mark.parametrize("length", [1024, 8192])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_share_of_bytes_is_held_to_three_percent(cache: Path, share: float, length: int) -> None:
    model = adapt(tiny_model("llama", hidden_size=64))
    keep_bases(model, made(model))
    found = Matryoshka(first=4, searched=False).at_share(share, model, length)
    held = sum(found.bytes_per_token(f, torch.float32, length) for f in model.layers)
    assert held / model.bytes_per_token == pytest.approx(share, rel=0.03)
    assert found.first == 4 and not found.searched
    assert Matryoshka().at_share(1.0, model, length) == Matryoshka(share=1.0)
    assert Matryoshka().at_share(0.1, model, length).share == 0.25


# Beside retentions that part heads.


@pytest.mark.parametrize("other", ["duo(heads=0.5, sinks=2, recent=8)", "adakv(budget=64)"])
def test_heads_that_lie_apart_keep_bases_of_their_own(
    cache: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapt(tiny_model("llama"))
    if other.startswith("duo"):
        rows = [[1.0, 0.0] for _ in model.layers]
        calibration.save("duo", model, {"gates": rows})
    plan = resolve(f"matryoshka(trained=false, share=0.5, residual=8) + {other}", model)
    sequence = Sequence(model, plan)
    prefill(sequence, tokens(96))
    sequence.end_prefill()
    teacher_force(sequence, tokens(40, seed=1), 1)
    apart = [group for layer in sequence.layers for group in layer.groups
             if group.heads is not None and group.compressible.closed]  # fmt: skip
    assert apart
    for group in apart:
        assert group.heads is not None
        (block,) = group.compressible.closed
        assert isinstance(block, MatryoshkaBlock)
        assert all(len(side.mean) == len(group.heads) for side in block.sides)
        assert len(block.decode().key) == len(group.heads)


# What is refused.


def test_bases_are_of_their_model_and_version(cache: Path) -> None:
    model = adapt(tiny_model("llama"))
    with pytest.raises(Refused, match="lengthwise calibrate matryoshka"):
        resolve("matryoshka", model)
    calibration.save("matryoshka", model, {**made(model), "version": 0})
    with pytest.raises(Refused, match="another version"):
        resolve("matryoshka", model)
    keep_bases(model, made(model))
    resolve("matryoshka", model)
    for other in (adapt(tiny_model("llama", seed=7)), adapt(tiny_model("llama").bfloat16())):
        with pytest.raises(Refused, match="lengthwise calibrate matryoshka"):
            resolve("matryoshka", other)


def damaged(model: AdaptedModel, how: str) -> dict[str, Any]:
    found = json.loads(json.dumps(made(model)))
    if how == "no layers":
        del found["layers"]
    elif how == "one layer less":
        found["layers"].pop()
    elif how == "other sizes":
        found["layers"][0][0]["basis"]["shape"][0] = 1
    elif how == "no base64":
        found["layers"][0][1]["mean"]["data"] = "#"
    elif how == "lost too often":
        found["order"].append(found["order"][0])
    else:
        bases = principal(model, 64)
        assert bases[0] is not None
        bases[0] = (Bases(bases[0][0].mean * torch.nan, bases[0][0].basis), bases[0][1])
        found = stored(bases, found["order"])
    return found


@pytest.mark.parametrize("how", ["no layers", "one layer less", "other sizes", "no base64",
                                 "lost too often", "no numbers"])  # fmt: skip
def test_damaged_bases_are_refused_with_the_command(cache: Path, how: str) -> None:
    model = adapt(tiny_model("llama"))
    calibration.save("matryoshka", model, damaged(model, how))
    with pytest.raises(LengthwiseError, match="damaged; `lengthwise calibrate matryoshka`"):
        resolve("matryoshka", model)


def test_bases_of_pca_are_measured_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        resolve("matryoshka(trained=false)", adapt(tiny_model("llama")))
    assert capsys.readouterr().err.count("measuring this model's keys and values") == 1
    path = next((cache / "calibration").glob("matryoshka-pca-*"))
    path.write_text(path.read_text().replace('"layers"', '"floors"'))
    with pytest.raises(LengthwiseError, match="damaged; delete the file"):
        resolve("matryoshka(trained=false)", adapt(tiny_model("llama")))


def test_what_cannot_run_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapt(tiny_model("llama"))
    for recipe, said in (
        ("kivi", "how keys and values are stored"), ("think", "how keys and values are stored"),
        ("dynamic_ntk", "turns them"), ("h2o", "deletes at every step"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=said):
            resolve(f"matryoshka(trained=false) + {recipe}", model)
    with pytest.raises(RecipeError, match="share"):
        Matryoshka(share=0.1)
    with pytest.raises(RecipeError, match="trained=true"):
        Matryoshka(trained=False, searched=False)
    monkeypatch.setattr(learned_bases, "SMALL", 0)
    with pytest.raises(Refused, match="lengthwise calibrate matryoshka"):
        resolve("matryoshka(trained=false)", adapt(tiny_model("llama", seed=9)))
