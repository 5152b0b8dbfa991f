"""Frequencies of each method are those of its paper and of transformers."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.methods.positions.giraffe import Giraffe
from lengthwise.methods.positions.ntk import NTK
from lengthwise.methods.positions.pi import PI
from lengthwise.methods.positions.yarn import YaRN
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import RopeFacts
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tokens
from tests.methods.positions.position_runs import COUNT, TRAINED, adapted_tiny, logits_of


def _config(rope: dict[str, object]) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=576, num_attention_heads=9, max_position_embeddings=8192,
        rope_parameters={"rope_theta": 100000.0, **rope},
    )  # fmt: skip


SMOL = RopeFacts(theta=100000.0, rotary_dim=64, trained_length=8192)
PLAIN = 100000.0 ** -(torch.arange(0, 64, 2).float() / 64)


@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0, 16.0])
@pytest.mark.parametrize("asked", [{}, {"attention": 1.0}, {"attention": 0.7},
                                   {"beta_fast": 16.0, "beta_slow": 2.0}])  # fmt: skip
def test_yarn_frequencies_equal_transformers(
    llama: AdaptedModel, factor: float, asked: dict[str, float]
) -> None:
    theirs_asked = {k.replace("attention", "attention_factor"): v for k, v in asked.items()}
    rope = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": 8192}
    theirs, amplitude = ROPE_INIT_FUNCTIONS["yarn"](_config(rope | theirs_asked), "cpu")
    ours, own = YaRN(factor=factor, **asked).frequencies(llama).scale(PLAIN, SMOL, 0)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert own == pytest.approx(amplitude, abs=1e-6)


def test_yarn_attention_reaches_the_logits(llama: AdaptedModel) -> None:
    """cos and sin carry it, for queries and keys: one is as if the scale of logits were squared."""
    ids = tokens(COUNT)
    plain, sharp = (logits_of(llama, YaRN(factor=1.0, attention=a), ids) for a in (1.0, 2.0))
    scaled = dataclasses.replace(
        llama, layers=[dataclasses.replace(x, scaling=4 * x.scaling) for x in llama.layers]
    )
    torch.testing.assert_close(plain, logits_of(llama, None, ids), rtol=0, atol=1e-4)
    torch.testing.assert_close(sharp, logits_of(scaled, None, ids), rtol=0, atol=1e-3)


def test_yarn_ramp_of_smollm2_goes_from_pair_10_to_pair_20() -> None:
    ramp = YaRN().ramp(SMOL, 32)
    assert ramp[:11].max() == 0 and ramp[20:].min() == 1 and 0 < ramp[11] < ramp[19] < 1


@pytest.mark.parametrize(("length", "theta"), [(8192, 1e5), (16384, 310822), (32768, 745348)])
def test_dynamic_ntk_frequencies_equal_transformers(
    llama: AdaptedModel, length: int, theta: float
) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0}
    theirs, _ = ROPE_INIT_FUNCTIONS["dynamic"](_config(rope), "cpu", seq_len=length)
    for method in (DynamicNTK(factor=2.0), DynamicNTK(factor=2.0, length=length)):
        ours, amplitude = method.frequencies(llama).scale(PLAIN, SMOL, length)
        torch.testing.assert_close(ours, theirs)
        assert amplitude == 1.0
        assert float(ours[16]) ** -2 == pytest.approx(theta, rel=1e-3)


@pytest.mark.parametrize(("factor", "theta"), [(2.0, 204522), (4.0, 418294)])
def test_ntk_raises_the_base(llama: AdaptedModel, factor: float, theta: float) -> None:
    ours, _ = NTK(factor=factor).frequencies(llama).scale(PLAIN, SMOL, 0)
    torch.testing.assert_close(
        ours, theta ** -(torch.arange(0, 64, 2).float() / 64), rtol=1e-4, atol=0
    )
    assert ours[0] == PLAIN[0] and float(PLAIN[-1] / ours[-1]) == pytest.approx(factor)


def test_pi_equals_linear_scaling_of_transformers(llama: AdaptedModel) -> None:
    theirs, _ = ROPE_INIT_FUNCTIONS["linear"](
        _config({"rope_type": "linear", "factor": 4.0}), "cpu"
    )
    ours, _ = PI(factor=4.0).frequencies(llama).scale(PLAIN, SMOL, 0)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("scale", [None, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("power", [0.0, 0.5])
@pytest.mark.parametrize("truncate", [None, 500])
def test_giraffe_basis_is_the_formula(
    scale: float | None, power: float, truncate: int | None
) -> None:
    """By hand, in the order of the authors' code: scaled, then the power, then truncated."""
    found = Giraffe(scale=scale, power=power, truncate=truncate).basis(PLAIN).tolist()
    divisor = scale or (1.0 if power or truncate else 4.0)
    expected = [f / divisor * (1 - i / 32) ** power for i, f in enumerate(PLAIN.tolist())]
    if truncate:
        high = 2 * math.pi / truncate
        expected = [f if f >= high else high / 16 if f >= high / 8 else 0.0 for f in expected]
        assert 0.0 in found and pytest.approx(high / 16) in found
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("prompt", [20, TRAINED])
def test_dynamic_ntk_within_the_trained_length_is_exactly_full(
    llama: AdaptedModel, prompt: int
) -> None:
    ids = tokens(TRAINED)
    ours = logits_of(llama, DynamicNTK(), ids, prompt, 7)
    torch.testing.assert_close(ours, logits_of(llama, None, ids, prompt, 7), rtol=0, atol=1e-5)


def test_dynamic_ntk_moves_old_keys_when_the_base_grows() -> None:
    """With one layer, decoding past the trained length is a prefill of the same text."""
    model = adapted_tiny(num_hidden_layers=1)
    ids = tokens(TRAINED * 3)
    whole = logits_of(model, DynamicNTK(), ids)
    stepped = logits_of(model, DynamicNTK(), ids, TRAINED - 5, 8)
    torch.testing.assert_close(stepped[-1], whole[-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("cls", [PI, NTK, DynamicNTK, YaRN, Giraffe], ids=lambda cls: cls.name)
def test_a_model_whose_own_frequencies_move_is_refused(cls: type[Method]) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    model = adapted_tiny(rope_parameters=rope)
    with pytest.raises(Refused, match="already changes them with the length.*self_extend"):
        resolve([cls()], model)


def test_factor_one_keeps_a_scaling_of_the_models_own() -> None:
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
            "original_max_position_embeddings": 16}  # fmt: skip
    model = adapted_tiny(rope_parameters=rope)
    ids = tokens(COUNT)
    full = logits_of(model, None, ids)
    for cls in (PI, NTK, YaRN, Giraffe):
        torch.testing.assert_close(
            logits_of(model, cls.identity(COUNT), ids), full, rtol=0, atol=1e-4
        )
