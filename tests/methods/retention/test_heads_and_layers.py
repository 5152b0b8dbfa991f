"""DuoAttention and LongGen keep what their tables say, and go with what can go with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods import calibration
from lengthwise.methods.gates import KIND
from lengthwise.methods.retention.duo import Duo
from lengthwise.methods.retention.longgen import LongGen, middle_of
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens

GATES = [[0.9, 0.1], [0.0, 0.3]]


@pytest.fixture
def gated() -> AdaptedModel:
    model = tiny("llama")
    calibration.save(KIND, model, {"gates": GATES})
    return model


def held(model: AdaptedModel, recipe: str, length: int) -> Sequence:
    sequence = Sequence(model, resolve(recipe, model))
    prefill(sequence, tokens(length), 64)
    sequence.end_prefill()
    return sequence


def test_heads_with_the_largest_gates_keep_everything(gated: AdaptedModel) -> None:
    table = Duo(sinks=2, recent=8).head_table(gated)
    assert [[each.heads for each in table[layer]] for layer in (0, 1)] == [
        [(0,), (1,)], [(1,), (0,)],
    ]  # fmt: skip
    quarter = Duo(heads=0.25).head_table(gated)
    assert [len(quarter[layer]) for layer in (0, 1)] == [2, 1]
    assert quarter[1][0].heads is None and quarter[1][0].placement is not None


def test_no_gates_are_asked_for_where_all_heads_do_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    monkeypatch.setattr("lengthwise.methods.gates.SMALL", 0)
    model = adapt(tiny_model("llama", seed=3))
    for share in (0.0, 1.0):
        resolve([Duo(heads=share)], model)
    with pytest.raises(Refused, match="lengthwise calibrate duo"):
        resolve([Duo()], model)


@pytest.mark.parametrize("gates", [
    None, [], [[0.5, 0.5]], [[0.5], [0.5]], [[0.5, 2.0], [0.1, 0.1]], [[0.5, "1"], [0.1, 0.1]],
], ids=str)  # fmt: skip
def test_a_damaged_artefact_is_refused_by_its_file(gates: object) -> None:
    model = adapt(tiny_model("llama", seed=5))
    path = calibration.save(KIND, model, {"gates": gates})
    with pytest.raises(LengthwiseError, match=f"{path.name}.*damaged.*calibrate duo"):
        resolve([Duo()], model)


def test_bytes_are_those_of_what_heads_keep() -> None:
    model = adapt(
        tiny_model("llama", hidden_size=128, head_dim=64, max_position_embeddings=2048).to(
            torch.bfloat16
        ),
        verify=False,
    )
    calibration.save(KIND, model, {"gates": GATES})
    for recipe, kept in (("duo", (1600 + 64 + 256) / 2), ("longgen(window=256)", 960)):
        nbytes = held(model, recipe, 1600).nbytes()
        # Each entry has an index of 4 bytes beside its 256.
        expected = kept * model.bytes_per_token * (1 + 4 / 256)
        assert abs(nbytes / expected - 1) < 0.03, recipe


@pytest.mark.parametrize("other", [
    "quest(budget=24, window=8, page=4, dense=0)",
    "squeezed(removed=0.5, clusters=0.25, coarse=0.1, window=8)",
    "kivi(bits=8, group=8, residual=16)", "think(ratio=0.1, recent=8, window=8)", "int8",
    "yarn(factor=2)", "dynamic_ntk", "lookup",
])  # fmt: skip
def test_retrieval_heads_do_what_the_rest_of_the_recipe_says(
    gated: AdaptedModel, other: str
) -> None:
    sequence = held(gated, f"duo(sinks=2, recent=8) + {other}", 60)
    kept = [[group.kept() for group in sequence.head_groups(layer)] for layer in (0, 1)]
    assert kept == [[60, 9], [60, 9]]
    selecting = [group.selector is not None for _, group in sequence.groups()]
    assert selecting in ([False] * 4, [True, False] * 2)
    assert bool(teacher_force(sequence, tokens(30, seed=1), 1).isfinite().all())


@pytest.mark.parametrize("other, why", [
    ("snapkv", "both decide what is kept"), ("razor", "both decide what is kept"),
    ("longgen", "which heads keep what"), ("lserve", "which heads keep what"),
    ("streaming", "places those of all heads anew"), ("self_extend", "places those of all heads"),
    ("infllm", "places those of all heads"), ("hip(dense=0)", "blocks of a prompt"),
    ("ape", "documents beside it"),
])  # fmt: skip
def test_what_would_prune_or_move_them_is_refused(
    gated: AdaptedModel, other: str, why: str
) -> None:
    for recipe in (f"duo + {other}", f"{other} + duo"):
        with pytest.raises(Refused, match=why):
            resolve(recipe, gated)


def test_guesses_of_a_window_are_not_made_by_heads(gated: AdaptedModel) -> None:
    with pytest.raises(Refused, match="the guesses see the prompt"):
        resolve("window(recipe=duo)", gated)


@pytest.mark.parametrize("count, full, middle", [
    (30, 1 / 3, [*range(10, 20)]), (12, 1 / 3, [4, 5, 6, 7]), (4, 0.5, [1, 2]), (3, 0.0, []),
    (3, 1.0, [0, 1, 2]), (2, 1 / 3, [0]),
])  # fmt: skip
def test_the_middle_layers_keep_everything(count: int, full: float, middle: list[int]) -> None:
    assert middle_of(list(range(count)), full) == middle


def test_layers_with_windows_of_their_own_are_not_counted() -> None:
    model = tiny("gemma3_text")
    assert LongGen(full=0.0).head_table(model).keys() == {2}
    assert not LongGen(full=1.0).head_table(model)
    mixed = held(tiny("smollm3"), "longgen(full=0.5, sinks=2, window=8)", 60)
    kept = [group.kept() for _, group in mixed.groups()]
    assert kept == [9, 60, 60, 9]
