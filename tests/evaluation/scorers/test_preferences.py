"""Length-controlled win rates: the card's small checks."""

from __future__ import annotations

import math
import random

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.preferences import WinRates, between, length_controlled


def judged(seed: int = 0, count: int = 200) -> tuple[list[float], list[int], list[int]]:
    """A judge who likes long answers alone, and a model whose answers are mostly longer."""
    draw = random.Random(seed)
    model = [draw.randint(900, 2000) for _ in range(count)]
    base = [draw.randint(300, 1200) for _ in range(count)]
    gaps = [b - m for m, b in zip(model, base, strict=True)]
    mean = sum(gaps) / count
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (count - 1))
    wins = [1 / (1 + math.exp(2 * math.tanh(gap / spread))) for gap in gaps]
    return wins, model, base


def test_a_judge_of_length_alone_gives_half() -> None:
    found = length_controlled(*judged())
    assert found.raw > 0.7
    assert found.controlled == pytest.approx(0.5, abs=0.02)
    assert found.length == pytest.approx(-2, abs=0.2)
    assert found.difficulty is None


def test_sides_that_change_places_give_the_rest() -> None:
    wins, model, base = judged(1)
    wins = [min(1.0, each + 0.1) for each in wins]
    there = length_controlled(wins, model, base)
    back = length_controlled([1 - each for each in wins], base, model)
    assert there.controlled + back.controlled == pytest.approx(1, abs=1e-3)


def test_a_model_against_itself_gives_half() -> None:
    one = WinRates(0.6, 0.6, 0.01, 0.4, -1.0, 0.3)
    assert between(one, one, [0.5, -2.0]) == 0.5
    assert between(one, WinRates(0.5, 0.5, 0.01, 0.0, 0.0, None)) > 0.5


def test_equal_lengths_leave_the_raw_rate() -> None:
    wins = [0.0, 1.0, 1.0, 1.0] * 20
    found = length_controlled(wins, [100] * 80, [100] * 80)
    assert found.controlled == pytest.approx(0.75, abs=0.01)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(LengthwiseError, match="numbers of preferences, lengths .* differ"):
        length_controlled([1.0], [1, 2], [1, 2])
    with pytest.raises(LengthwiseError, match="2 preferences: at least 5"):
        length_controlled([1.0, 0.0], [1, 2], [1, 2])
    with pytest.raises(LengthwiseError, match="preference 2.0: allowed are 0 to 1"):
        length_controlled([2.0] * 5, [1] * 5, [2] * 5)
