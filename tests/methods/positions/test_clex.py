"""CLEX: frequencies by the scale of the text, along the law or along a learned path."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods import calibration
from lengthwise.methods.positions.clex import CLEX, trained_network
from lengthwise.methods.positions.scale_network import FILE, ScaleNetwork, lawful
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import RopeFacts
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tokens
from tests.methods.positions.position_runs import COUNT, TRAINED, adapted_tiny, logits_of

DIM = 16
PLAIN = 10000.0 ** -(torch.arange(0, DIM, 2).float() / DIM)
LAW = CLEX(network=False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def network(trained: int = TRAINED, largest: int = 4, seed: int = 0) -> ScaleNetwork:
    """One that has learned something, small enough that its frequencies stay sane."""
    torch.manual_seed(seed)
    made = ScaleNetwork(DIM // 2, trained, largest)
    torch.nn.init.normal_(made.down, std=0.05)
    return made.requires_grad_(False)


@pytest.mark.parametrize("scale", [1, 2, 5, 16])
def test_without_a_network_the_law_is_that_of_ntk(llama: AdaptedModel, scale: int) -> None:
    """A base of theta (2t - 1)^(d / (d - 2))."""
    base = 10000.0 * (2 * scale - 1) ** (DIM / (DIM - 2))
    wanted = base ** -(torch.arange(0, DIM, 2).float() / DIM)
    rule = LAW.frequencies(llama)
    facts = RopeFacts(10000.0, DIM, TRAINED)
    found, amplitude = rule.scale(PLAIN, facts, TRAINED * scale)
    torch.testing.assert_close(found, wanted)
    assert amplitude == 1.0


@pytest.mark.parametrize("scale", [1, 2, 5, 16])
def test_integrated_the_law_is_its_closed_form(scale: int) -> None:
    made = ScaleNetwork(DIM // 2, TRAINED, 16)
    found = made.frequencies(PLAIN, DIM, scale).detach()
    assert made.down.requires_grad and not made.down.any()
    torch.testing.assert_close(found, lawful(PLAIN, DIM, scale), rtol=1e-4, atol=0)


def _by_hand(made: ScaleNetwork, scale: int, step: float) -> list[float]:
    """Euler's way with tiny steps, in doubles, from the equation alone."""
    up, down = made.up.double(), made.down.double()
    power = torch.tensor([2 * i / (DIM - 2) for i in range(DIM // 2)], dtype=torch.float64)
    own = PLAIN.double().log()
    x, t = own.clone(), 1.0
    for _ in range(round((scale - 1) / step)):
        law = own - power * math.log(2 * t - 1)
        x = x + step * (torch.tanh((x + law) @ up) @ down - power * 2 / (2 * t - 1))
        t += step
    return x.exp().tolist()


@pytest.mark.parametrize("scale", [2, 3])
def test_a_network_moves_frequencies_as_the_equation_says(scale: int) -> None:
    made = network()
    found = made.frequencies(PLAIN, DIM, scale)
    assert found.tolist() == pytest.approx(_by_hand(made, scale, 2e-4), rel=2e-3)
    assert not torch.allclose(found, lawful(PLAIN, DIM, scale), rtol=1e-2)


def test_frequencies_of_zero_stay() -> None:
    own = PLAIN.clone()
    own[-2:] = 0
    for made in (network(), ScaleNetwork(DIM // 2, TRAINED, 4).requires_grad_(False)):
        found = made.frequencies(own, DIM, 3)
        assert found[-2:].tolist() == [0, 0] and bool((found[:-2] > 0).all())


@pytest.mark.parametrize(
    ("length", "scale"), [(1, 1), (TRAINED, 1), (TRAINED + 1, 2), (4 * TRAINED, 4), (999, 4)]
)
def test_the_scale_is_the_length_rounded_up(length: int, scale: int) -> None:
    assert network().scale_of(length) == scale


def test_within_the_trained_length_it_is_full(llama: AdaptedModel) -> None:
    ids = tokens(TRAINED)
    ours = logits_of(llama, LAW, ids, TRAINED - 9, 7)
    torch.testing.assert_close(ours, logits_of(llama, None, ids, TRAINED - 9, 7))


def test_all_keys_turn_when_the_scale_grows() -> None:
    """With one layer, decoding past a multiple of the length is a prefill of the same text."""
    model = adapted_tiny(num_hidden_layers=1)
    ids = tokens(TRAINED * 3)
    whole = logits_of(model, LAW, ids)
    stepped = logits_of(model, LAW, ids, TRAINED - 5, 8)
    torch.testing.assert_close(stepped[-1], whole[-1], rtol=0, atol=1e-4)
    assert (whole[-1] - logits_of(model, None, ids)[-1]).abs().max() > 1e-3


def test_a_frozen_scale_makes_decoding_exact(llama: AdaptedModel) -> None:
    ids = tokens(COUNT)
    frozen = CLEX(network=False, length=2 * TRAINED)
    ours = logits_of(llama, frozen, ids, 20, 7)
    torch.testing.assert_close(ours, logits_of(llama, frozen, ids), rtol=0, atol=1e-4)
    assert not resolve([frozen], llama).rule.dynamic


def test_the_largest_scale_is_kept(llama: AdaptedModel) -> None:
    few, facts = CLEX(max_factor=2, network=False), RopeFacts(10000.0, DIM, TRAINED)
    found, _ = few.frequencies(llama).scale(PLAIN, facts, 9 * TRAINED)
    torch.testing.assert_close(found, lawful(PLAIN, DIM, 2))


def test_a_model_without_a_network_is_refused(llama: AdaptedModel) -> None:
    with pytest.raises(Refused, match=r"positions. name = .clex.*clex\(network=false\)"):
        resolve("clex", llama)


@pytest.fixture
def trained(cache: Path) -> AdaptedModel:
    """A model in whose folder a network lies."""
    model = adapted_tiny(head_dim=DIM)
    model.model.config._name_or_path = model.model.name_or_path = str(cache)
    (cache / FILE).write_text(json.dumps(network().numbers()))
    return model


def _frequencies(model: AdaptedModel, recipe: str, length: int) -> Tensor:
    rule = resolve(recipe, model).rule
    return rule.scale(PLAIN, RopeFacts(10000.0, DIM, TRAINED), length)[0]


def test_the_network_of_a_folder_is_kept_for_its_model(
    trained: AdaptedModel, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = network().frequencies(PLAIN, DIM, 3)
    torch.testing.assert_close(_frequencies(trained, "clex", 3 * TRAINED), wanted)
    assert "is kept for this model" in capsys.readouterr().err
    (cache / FILE).unlink()
    torch.testing.assert_close(_frequencies(trained, "clex", 3 * TRAINED), wanted)
    few = _frequencies(trained, "clex(max_factor=2)", 3 * TRAINED)
    torch.testing.assert_close(few, network().frequencies(PLAIN, DIM, 2))
    assert capsys.readouterr().err == ""


def test_networks_of_other_models_and_dtypes_are_not_taken(trained: AdaptedModel) -> None:
    trained_network(trained)
    other = adapted_tiny(head_dim=DIM, rms_norm_eps=1e-3)
    with pytest.raises(Refused, match="needs a scale network"):
        trained_network(other)
    half = adapted_tiny(head_dim=DIM)
    half.model.to(torch.bfloat16)
    with pytest.raises(Refused, match="needs a scale network"):
        trained_network(half)


def test_a_damaged_copy_is_made_anew_from_the_folder(trained: AdaptedModel) -> None:
    trained_network(trained)
    kept = calibration.artefact_path("clex", trained)
    kept.write_text("{")
    trained_network(trained)
    assert json.loads(kept.read_text())["largest"] == 4


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"up": 1}', '{"up": [[1.0]], "down": [[1.0]], "trained": 0}']
)
def test_damaged_networks_are_told(trained: AdaptedModel, cache: Path, damage: str) -> None:
    trained_network(trained)
    kept, place = calibration.artefact_path("clex", trained), cache / FILE
    place.write_text(damage)
    with pytest.raises(LengthwiseError, match="scale network is damaged.*delete it"):
        trained_network(trained)
    place.unlink()
    kept.write_text(damage)
    with pytest.raises(LengthwiseError, match=f"{kept.name}: this calibration is damaged"):
        trained_network(trained)


def test_a_network_of_another_size_is_refused(trained: AdaptedModel, cache: Path) -> None:
    (cache / FILE).write_text(json.dumps(ScaleNetwork(4, TRAINED, 4).numbers()))
    with pytest.raises(Refused, match="of 4 pairs of channels.*rotates 8"):
        resolve("clex", trained)


def test_numbers_that_are_not_finite_are_none() -> None:
    bad: dict[str, Any] = network().numbers()
    bad["up"][0][0] = math.nan
    with pytest.raises(LengthwiseError, match="out of range"):
        ScaleNetwork.of(bad)


def test_a_model_whose_own_frequencies_move_is_refused() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    with pytest.raises(Refused, match="already changes them with the length"):
        resolve([LAW], adapted_tiny(rope_parameters=rope))


def test_less_than_once_the_length_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        CLEX(max_factor=0)
