"""Tiny models of our own: each is what its paper says, trains in a run, and is refused by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, T5Config
from transformers.models.t5.modeling_t5 import T5Attention

import lengthwise
from lengthwise import architectures
from lengthwise.architectures.position_schemes import (
    SCHEMES,
    bucket,
    rotated,
    sines,
    slopes,
)
from lengthwise.architectures.softplus import sharpened, turned
from lengthwise.errors import LengthwiseError
from lengthwise.training.config import TrainingError
from lengthwise.training.trainer import train
from tests.training_runs import build_set, config, texts

SIZES = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip
KINDS: list[dict[str, Any]] = [
    *({"family": "position_schemes", "scheme": scheme} for scheme in SCHEMES),
    {"family": "urpe"}, {"family": "urpe", "bias": "none"},
    {"family": "softplus_attention", "power": 0}, {"family": "softplus_attention", "power": 15},
    {"family": "kernelised_attention", "path": "fft"},
    {"family": "kernelised_attention", "normalised": False},
]  # fmt: skip
each_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values()))
)


def made(family: str = "position_schemes", seed: int = 0, **settings: Any) -> Any:
    architectures.register()
    torch.manual_seed(seed)
    wanted = AutoConfig.for_model(family, **{**SIZES, **settings})
    return AutoModelForCausalLM.from_config(wanted).eval()


def ids(count: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(0, 32, (1, count), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: Any, row: Tensor, positions: Tensor | None = None) -> Tensor:
    return model(input_ids=row, position_ids=positions).logits[0]


@each_kind
def test_no_token_sees_what_follows(kind: dict[str, Any]) -> None:
    model, row = made(**kind), ids()
    other = torch.cat([row[:, :12], ids(8, 1)], 1)
    one, two = logits(model, row), logits(model, other)
    torch.testing.assert_close(one[:12], two[:12])
    assert (one[12:] - two[12:]).abs().max() > 1e-3


@each_kind
def test_documents_of_one_row_are_what_they_are_alone(kind: dict[str, Any]) -> None:
    model, one, two = made(**kind), ids(9), ids(11, 1)
    positions = torch.tensor([[*range(9), *range(11)]])
    found = logits(model, torch.cat([one, two], 1), positions)
    torch.testing.assert_close(found[:9], logits(model, one), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[9:], logits(model, two), rtol=0, atol=1e-5)


@each_kind
def test_what_is_saved_is_loaded(kind: dict[str, Any], tmp_path: Path) -> None:
    model = made(**kind)
    model.save_pretrained(tmp_path)
    again, said = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not said["missing_keys"] and not said["unexpected_keys"]
    assert torch.equal(logits(again.eval(), ids()), logits(model, ids()))


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3], KINDS[6], KINDS[9], KINDS[10]], ids=str)
def test_the_seam_refuses_them_by_name(kind: dict[str, Any]) -> None:
    with pytest.raises(LengthwiseError, match=kind["family"]):
        lengthwise.wrap(made(**kind))


# Position schemes.


@pytest.mark.parametrize(("layers", "same"), [(1, True), (2, False)])
def test_without_positions_one_layer_sees_a_set_and_two_an_order(layers: int, same: bool) -> None:
    """Of the last token, whatever the order of those before it."""
    model, row = made(num_hidden_layers=layers), ids()
    order = torch.cat([torch.randperm(19), torch.tensor([19])])
    one, two = logits(model, row)[-1], logits(model, row[:, order])[-1]
    assert torch.allclose(one, two, atol=1e-5) == same


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s != "none"])
def test_the_others_tell_an_order_in_one_layer(scheme: str) -> None:
    model, row = made(scheme=scheme, num_hidden_layers=1), ids()
    order = torch.cat([torch.randperm(19), torch.tensor([19])])
    one, two = logits(model, row)[-1], logits(model, row[:, order])[-1]
    assert not torch.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("scheme", ["none", "alibi", "t5", "rotary"])
def test_relative_schemes_do_not_know_where_a_text_begins(scheme: str) -> None:
    model, row = made(scheme=scheme), ids()
    moved = torch.arange(20)[None] + 30
    torch.testing.assert_close(logits(model, row, moved), logits(model, row), rtol=0, atol=1e-4)


def test_slopes_are_alibis() -> None:
    assert slopes(8).tolist() == [2.0**-n for n in range(1, 9)]


def test_buckets_are_t5s() -> None:
    distance = torch.arange(300)
    theirs = T5Attention._relative_position_bucket(-distance, bidirectional=False)
    assert torch.equal(bucket(distance), theirs)
    assert T5Config().relative_attention_num_buckets == 32
    assert bucket(torch.tensor([-5])).tolist() == [0]


def test_rotary_turns_a_quarter_of_the_channels_pair_by_pair() -> None:
    x = torch.randn(1, 1, 3, 32)
    found = rotated(x, torch.tensor([[0, 1, 7]]))
    assert torch.equal(found[..., 8:], x[..., 8:]) and torch.equal(found[:, :, 0], x[:, :, 0])
    for pair in range(4):
        angle = 7 * 10_000.0 ** (-pair / 4)
        a, b = x[0, 0, 2, 2 * pair : 2 * pair + 2].tolist()
        wanted = [
            a * math.cos(angle) - b * math.sin(angle),
            b * math.cos(angle) + a * math.sin(angle),
        ]
        assert found[0, 0, 2, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(wanted, abs=1e-5)


def test_rotary_turns_as_many_channels_as_it_is_told() -> None:
    model = made(scheme="rotary", partial_rotary_factor=1.0)
    assert not torch.allclose(logits(model, ids()), logits(made(scheme="rotary"), ids()))
    x, far = torch.randn(1, 1, 1, 32), torch.tensor([[9]])
    found, (half, other) = rotated(x, far, 1.0), (x[..., 0::2], x[..., 1::2])
    wanted = turned(torch.cat([half, other], -1), far)
    torch.testing.assert_close(torch.cat([found[..., 0::2], found[..., 1::2]], -1), wanted)


def test_sines_are_those_of_the_first_transformer() -> None:
    found = sines(torch.tensor([[5]]), 8)[0, 0].tolist()
    wanted = [f(5 / 10_000 ** (i / 8)) for i in (0, 2, 4, 6) for f in (math.sin, math.cos)]
    assert found == pytest.approx(wanted, abs=1e-6)


# URPE.


def test_factors_of_one_change_nothing() -> None:
    model = made("urpe", bias="none")
    plain = made("position_schemes")
    weights = {k: v for k, v in model.state_dict().items() if "factors" not in k}
    plain.load_state_dict(weights)
    torch.testing.assert_close(logits(model, ids()), logits(plain, ids()))


def test_equal_tokens_are_told_apart_by_factors_alone() -> None:
    """A bias inside the softmax gives all of them one output, whatever the weights."""
    row = torch.full((1, 20), 7)
    model = made("urpe")
    found = logits(model, row)
    torch.testing.assert_close(found, found[:1].expand_as(found), rtol=0, atol=1e-5)
    torch.nn.init.normal_(model.layers[0].attention.factors)
    assert logits(model, row).std(0).max() > 1e-2


def test_beyond_the_table_its_last_number_holds() -> None:
    short, long = made("urpe", distances=4), made("urpe", distances=20)
    for a, b in zip(short.layers, long.layers, strict=True):
        torch.nn.init.normal_(a.attention.factors)
        own = a.attention.factors.data
        b.attention.factors.data = torch.cat([own, own[:, -1:].expand(-1, 16)], 1)
    rest = {k: v for k, v in short.state_dict().items() if "factors" not in k}
    long.load_state_dict(rest, strict=False)
    torch.testing.assert_close(logits(short, ids()), logits(long, ids()))


def test_factors_that_are_not_scaled_are_not_trained() -> None:
    for scaled in (True, False):
        model = made("urpe", scaled=scaled)
        assert model.layers[0].attention.factors.requires_grad == scaled


# Softplus attention.


def _weights(power: float, count: int = 12) -> Tensor:
    """What values weigh, `[n, n]`, read off by giving each its own direction."""
    model = made("softplus_attention", power=power, num_attention_heads=1, hidden_size=32)
    attention = model.layers[0].attention
    torch.manual_seed(1)
    query, key = torch.randn(2, 1, 1, count, 32)
    value = torch.eye(count, 32)[None, None]
    positions = torch.arange(count)[None]
    seen = torch.ones(count, count, dtype=torch.bool).tril()[None, None]
    found: Tensor = attention.mix(query, key, value, seen, seen, positions)[0, 0, :, :count]
    return found


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_rows_of_weights_sum_to_one_and_the_first_is_its_own(power: float) -> None:
    found = _weights(power)
    torch.testing.assert_close(found.sum(1), torch.ones(12), rtol=0, atol=1e-4)
    assert bool((found >= 0).all())
    assert found[0].tolist() == pytest.approx([1.0] + [0.0] * 11, abs=1e-6)
    assert not found.triu(1).any()


def test_weights_are_the_papers() -> None:
    """Re-weighted from LSSA's: the mean is taken off from the fourth row on."""
    plain, sharp = _weights(0.0), _weights(3.0)
    for row in range(12):
        keys = row + 1
        shift = 0.0 if keys <= 3 else 1.0
        raised = [max(0.0, float(w) * keys - shift) ** 3 for w in plain[row, :keys]]
        wanted = [each / (sum(raised) + 1e-8) for each in raised]
        assert sharp[row, :keys].tolist() == pytest.approx(wanted, abs=1e-5)


def test_a_larger_power_is_sharper() -> None:
    entropies = [float(torch.special.entr(_weights(p)[-1]).sum()) for p in (0.0, 3.0, 15.0)]
    assert entropies == sorted(entropies, reverse=True)


def test_a_large_power_of_many_keys_stays_finite() -> None:
    """4096^15 is beyond float32; what is within it is divided as the equation says."""
    row = torch.zeros(1, 4096)
    row[0, :2] = torch.tensor([4000.0, 3000.0])
    row.requires_grad_()
    found = sharpened(row, 15.0)
    wanted = (0.75**15) / (1 + 0.75**15)
    assert found[0, :2].tolist() == pytest.approx([1 - wanted, wanted])
    found[0, 1].backward()
    assert row.grad is not None and bool(row.grad.isfinite().all())
    few = torch.rand(5, 8, dtype=torch.float64) * 3
    raised = few**15
    torch.testing.assert_close(sharpened(few, 15.0), raised / (raised.sum(-1, keepdim=True) + 1e-8))


# Runs.

DATA = {"train": "best-fit"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("architectures")
    build_set(place, "best-fit", texts(60, 60), "best-fit")
    return place


@pytest.mark.parametrize(
    "kind", [KINDS[2], KINDS[6], KINDS[9], KINDS[10]], ids=lambda kind: kind["family"]
)
def test_a_run_trains_and_leaves_them(kind: dict[str, Any], place: Path) -> None:
    model = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
             "num_attention_heads": 2, **kind}  # fmt: skip
    out = kind["family"]
    folder = train(config(place, "best-fit", out, steps=3, model=model, data=DATA)).folder
    found = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert found.config.model_type == kind["family"] and found.config.vocab_size == 257
    with pytest.raises(LengthwiseError, match=kind["family"]):
        lengthwise.load(str(folder / "model"), dtype="float32")


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[10]], ids=lambda kind: kind["family"])
def test_a_run_goes_on_where_it_was(kind: dict[str, Any], place: Path) -> None:
    model = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
             "num_attention_heads": 2, **kind}  # fmt: skip
    weights = []
    for out, parts in (("once", [4]), ("twice", [2, 4])):
        for steps in parts:
            name = f"{out}-{kind['family']}"
            run = config(place, "best-fit", name, steps=steps, model=model, data=DATA,
                         schedule={"name": "power"})  # fmt: skip
            folder = train(run, extend=steps > parts[0]).folder
        weights.append(AutoModelForCausalLM.from_pretrained(folder / "model").state_dict())
    for name, one in weights[0].items():
        torch.testing.assert_close(one, weights[1][name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"family": "position_schemes", "scheme": "nope"}, "'nope' is none of none, alibi"),
        ({"family": "position_schemes", "partial_rotary_factor": 2.0}, "above 0 and at most 1"),
        ({"family": "urpe", "bias": "t5"}, "bias is none or alibi"),
        ({"family": "softplus_attention", "power": -1}, "0 .LSSA. or more"),
        ({"family": "kernelised_attention", "radius": 5.0}, "above 0 and at most 4"),
        ({"family": "kernelised_attention", "path": "slow"}, "none of auto, fft, dense"),
        (
            {"family": "kernelised_attention", "path": "fft", "normalised": False},
            "take path='dense', or normalised=True",
        ),
        ({"family": "urpe", "hidden_size": 30, "num_attention_heads": 4}, "is no multiple"),
        ({"family": "position_scheme"}, "did you mean 'position_schemes'"),
        ({"family": "urpe", "distance": 9}, "did you mean distances"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    settings: dict[str, Any], reason: str, place: Path
) -> None:
    with pytest.raises(TrainingError, match=reason):
        train(config(place, "best-fit", "refused", steps=1, model=settings, data=DATA))
