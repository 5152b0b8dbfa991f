"""The controller takes the best that is in time, and the fastest where nothing is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from lengthwise.api.stream_control import TEXT, Rates, Remaining, choose, expected, quality
from lengthwise.engine.kv_cache.cachegen import LOSSLESS

# A thousand tokens at 10, 20, 30 and 60 MB.
REST = Remaining(1000, {1: 10_000_000, 2: 20_000_000, 3: 30_000_000, LOSSLESS: 60_000_000})


@pytest.mark.parametrize(
    ("left", "rates", "busy", "wanted"),
    [
        # 10 MB a second: the best that comes in time.
        (7.0, Rates(1e7), 0.0, LOSSLESS),
        (6.0, Rates(1e7), 0.0, LOSSLESS),
        (5.9, Rates(1e7), 0.0, 3),
        (2.5, Rates(1e7), 0.0, 2),
        (1.0, Rates(1e7), 0.0, 1),
        # Nothing is in time: the fastest.
        (0.5, Rates(1e7), 0.0, 1),
        (-3.0, Rates(1e7), 0.0, 1),
        (0.5, Rates(1e7, 5000.0), 0.0, TEXT),
        # Text loses nothing: it is taken where it is in time, and faster than the lossless level.
        (3.0, Rates(1e7, 400.0), 0.0, TEXT),
        (2.2, Rates(1e7, 400.0), 0.0, 2),
        (9.0, Rates(1e7, 400.0), 0.0, TEXT),
        (9.0, Rates(1e9, 400.0), 0.0, LOSSLESS),
        # What is here already delays text, and a link goes on meanwhile.
        (3.0, Rates(1e7, 400.0), 1.0, 3),
        (1.9, Rates(1e8, None, 1000.0), 0.5, LOSSLESS),
        (1.2, Rates(1e8, None, 1000.0), 0.5, 1),
        # Nothing was measured: a medium level.
        (0.1, Rates(), 0.0, 2),
        (math.inf, Rates(None, 1e9), 0.0, 2),
    ],
)  # fmt: skip
def test_the_best_that_is_in_time(left: float, rates: Rates, busy: float, wanted: int) -> None:
    assert choose(REST, left, rates, busy) == wanted


def test_without_a_medium_level_the_first_is_the_nearest() -> None:
    assert choose(Remaining(5, {3: 9, LOSSLESS: 20}), 1.0, Rates()) == 3
    assert choose(Remaining(5, {1: 9}), 1.0, Rates()) == 1
    assert quality(TEXT) == LOSSLESS and quality(1) == 1


@given(
    st.floats(0.01, 1e3), st.floats(1e3, 1e9), st.one_of(st.none(), st.floats(1, 1e6)),
    st.one_of(st.none(), st.floats(1, 1e6)), st.floats(0, 10),
)  # fmt: skip
def test_nothing_better_was_in_time(
    left: float, bandwidth: float, reading: float | None, decoding: float | None, busy: float
) -> None:
    rates = Rates(bandwidth, reading, decoding)
    chosen, times = choose(REST, left, rates, busy), expected(REST, rates, busy)
    if times[chosen] <= left:
        better = [k for k, seconds in times.items() if seconds <= left]
        assert quality(chosen) == max(map(quality, better))
    else:
        assert times[chosen] == min(times.values())
