"""Learning rates: continuous, bounded, and those of the papers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.errors import LengthwiseError
from lengthwise.training.schedules import DECAYS, NAMES, cosine, decay, learning_rate, power, wsd

BILLION = 1e9


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert cosine(550, 1000, peak=1.0, warmup=100, floor=0.2) == pytest.approx(0.6)
    assert cosine(50, 1000, peak=1.0, warmup=100) == pytest.approx(0.5)
    assert cosine(1000, 1000, peak=1.0, warmup=100, floor=0.2) == pytest.approx(0.2)


def test_wsd_is_level_between_warm_up_and_decay() -> None:
    rates = [wsd(n, 100, peak=3.0, warmup=10, decay_last=20) for n in (5, 10, 50, 80, 90, 100)]
    assert rates == pytest.approx([1.5, 3.0, 3.0, 3.0, 1.5, 0.0])


def test_power_follows_the_law_with_the_card_s_constants() -> None:
    rate = power(1e12, tokens_per_step=512 * 4096)
    assert rate == pytest.approx(512 * 4 * 1e12**-0.51)
    assert power(2 * BILLION, tokens_per_step=512 * 4096) == 0.02


def test_twice_the_batch_is_twice_the_rate_where_not_capped() -> None:
    one, two = (power(1e12, tokens_per_step=n * 4096) for n in (128, 256))
    assert two == pytest.approx(2 * one)


def test_power_needs_no_horizon() -> None:
    free = power(50 * BILLION, tokens_per_step=2**19)
    bound = power(50 * BILLION, tokens_per_step=2**19, total_tokens=1e12, decay_last=1e11)
    assert free == bound


@pytest.mark.parametrize("shape", DECAYS)
def test_a_decay_falls_from_one_to_nought(shape: str) -> None:
    values = [decay(shape, n / 50) for n in range(-1, 52)]
    assert values[0] == 1.0 and abs(values[-1]) < 1e-12
    assert all(a >= b for a, b in zip(values, values[1:], strict=False))


@given(
    st.sampled_from(NAMES), st.integers(20, 400), st.integers(1, 8), st.integers(1, 8),
    st.floats(1e-5, 1e-1),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rates_are_continuous_within_bounds_and_end_at_the_floor(name, total, warm, last, peak):
    floor = peak / 10
    more = {} if name == "cosine" else {"decay_steps": last}
    rate = learning_rate(
        name, total_steps=total, tokens_per_step=4096, peak=peak, warmup_steps=warm, floor=floor,
        **more,
    )  # fmt: skip
    rates = [rate(step) for step in range(total)]
    assert rates[0] > 0 and max(rates) <= peak * (1 + 1e-9)
    steepest = peak / warm + 4 * peak / min(last, total - warm)
    assert all(abs(a - b) <= steepest for a, b in zip(rates, rates[1:], strict=False))
    if name != "power":
        assert rates[-1] == pytest.approx(floor)


def test_power_is_continuous_where_warm_up_and_decay_begin() -> None:
    def rate(tokens: float) -> float:
        return power(tokens, tokens_per_step=2**18, total_tokens=1e12, decay_last=1e11)

    for border in (BILLION, 9e11):
        assert rate(border * (1 - 1e-9)) == pytest.approx(rate(border * (1 + 1e-9)), rel=1e-6)
    assert rate(1e12) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        ({"name": "cosin"}, "did you mean 'cosine'"),
        ({"name": "cosine", "decay_steps": 10}, "choose wsd"),
        ({"name": "wsd", "decay_steps": 95}, "leave something between"),
        ({"name": "wsd", "decay_steps": 9, "shape": "liner"}, "did you mean 'linear'"),
        ({"name": "cosine", "floor": 2.0}, "between 0 and peak"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(make, says: str) -> None:
    given_ = {"total_steps": 100, "tokens_per_step": 4096, "peak": 1.0, "warmup_steps": 10}
    with pytest.raises(LengthwiseError, match=says):
        learning_rate(**{**given_, **make})
