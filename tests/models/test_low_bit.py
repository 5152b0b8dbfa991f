"""Weights in 8 and 4 bits: what they hold, and the operators that multiply by them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.models import low_bit as module
from lengthwise.models.low_bit import FORMATS, LowBit, from_int4, join, low_bit

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Of the largest number of a row: what rounding a result to a dtype may cost.
NOISE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def drawn(outputs: int, inputs: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(outputs + inputs)
    return torch.randn(outputs, inputs).to(dtype)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(FORMATS), st.sampled_from(DTYPES), st.integers(1, 200),
    st.sampled_from([32, 64, 96, 128, 256, 576]), st.integers(1, 40),
)  # fmt: skip
def test_an_operator_gives_what_widened_weights_give(
    name: str, dtype: torch.dtype, outputs: int, inputs: int, rows: int
) -> None:
    weight = low_bit(drawn(outputs, inputs, dtype), name)
    assert (weight.outputs, weight.inputs, weight.widen().shape) == (
        outputs, inputs, (outputs, inputs)
    )  # fmt: skip
    if not weight.serves:
        pytest.skip("this processor has no such operator")
    x = drawn(rows, inputs, dtype)
    right = x.double() @ weight.widen().double().T
    for found in (weight.direct(x), weight.widened(x)):
        assert found.dtype == dtype
        assert (found - right).abs().max() <= NOISE[dtype] * right.abs().max()


@pytest.mark.parametrize("name", FORMATS)
def test_a_weight_is_off_by_half_a_step_at_most(name: str) -> None:
    wide = drawn(70, 96)
    groups = wide.view(70, -1, 32) if name == "int4" else wide[:, None]
    step = (groups.amax(-1) - groups.amin(-1)) / 15
    if name == "int8":
        step = groups.abs().amax(-1) / 127
    off = (low_bit(wide, name).widen() - wide).view(groups.shape).abs().amax(-1)
    assert bool((off <= 0.51 * step).all()) and bool((off > 0.1 * step).any())


def test_numbers_that_the_format_has_are_held_as_they_are() -> None:
    whole = torch.randint(0, 16, (64, 64), dtype=torch.int32)
    scales, zeros = torch.rand(64, 2) + 0.5, torch.randn(64, 2)
    wide = (whole - 8).view(64, 2, 32) * scales[..., None] + zeros[..., None]
    assert torch.allclose(from_int4(whole, scales, zeros).widen(), wide.view(64, 64), atol=1e-6)


@pytest.mark.parametrize("special", [0.0, 3.0])
@pytest.mark.parametrize("name", FORMATS)
def test_a_row_of_one_number_is_held(name: str, special: float) -> None:
    wide = torch.full((64, 32), special)
    assert torch.allclose(low_bit(wide, name).widen(), wide, atol=1e-6)


def test_inputs_that_no_group_divides_are_held_in_8_bits() -> None:
    assert low_bit(drawn(64, 40), "int4").name == "int8"


@pytest.mark.parametrize("name", FORMATS)
def test_several_are_one_where_their_forms_allow_it(name: str) -> None:
    weights = [low_bit(drawn(size, 64), name) for size in (64, 128, 64)]
    whole = join(weights)
    assert whole is not None
    assert torch.equal(whole.widen(), torch.cat([each.widen() for each in weights]))
    odd = join([weights[0], low_bit(drawn(40, 64), name)])
    assert (odd is None) == (name == "int4")
    assert join([weights[0], low_bit(drawn(64, 64), "int8" if name == "int4" else "int4")]) is None


def test_a_processor_that_packs_in_another_way_asks_its_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = low_bit(drawn(100, 64), "int4")
    wide = weight.widen()
    monkeypatch.setattr(module, "_block", lambda: None)
    assert torch.allclose(weight.widen(), wide, atol=1e-5)


def test_an_operator_that_is_missing_or_wrong_does_not_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SERVES", {})

    def missing(*_: object) -> torch.Tensor:
        raise NotImplementedError("not for this device")

    weight = low_bit(drawn(64, 64), "int8")
    monkeypatch.setattr(module, "_INT8", missing)
    assert not weight.serves
    module._SERVES.clear()
    monkeypatch.setattr(module, "_INT8", lambda x, data, scale: x @ data.float().T)
    assert not weight.serves
    assert isinstance(weight, LowBit)
