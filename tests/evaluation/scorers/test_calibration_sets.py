"""Calibration sets: losses, surprise and choices by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.calibration_sets import (
    STRATEGIES,
    Candidate,
    candidate_scores,
    margin_rank_loss,
    qualities,
    select,
    surprise,
)

POOL = [
    Candidate(0.1, likelihood=-1.0, length=30, density=2.0, beam=0),
    Candidate(0.9, likelihood=-3.0, length=10, density=9.0, beam=1),
    Candidate(0.5, likelihood=-2.0, length=20, density=5.0, beam=2),
    Candidate(0.4, likelihood=-4.0, length=40, density=1.0, beam=3),
]


def test_scores_of_the_card() -> None:
    losses = [(1.0, 1.0, 1.0), (1.5, 1.5, 1.5)]
    assert candidate_scores(losses, scale=1, length_penalty=1) == pytest.approx([-1, -1.5])
    assert candidate_scores(losses, scale=1, length_penalty=2) == pytest.approx([-1 / 3, -1 / 2])


def test_a_wrong_order_costs_gap_and_margin() -> None:
    assert margin_rank_loss([-0.1, -0.3]) == 0
    assert margin_rank_loss([-0.3, -0.1]) == pytest.approx(0.2 + 0.001)


def test_the_released_loss_averages_pairs_of_a_distance() -> None:
    scores = [0.1, -0.2, 0.3, 0.0]
    wanted = 0.0
    for distance in range(1, 4):
        ahead, behind = torch.tensor(scores[:-distance]), torch.tensor(scores[distance:])
        loss = torch.nn.MarginRankingLoss(0.01 * distance)
        wanted += loss(ahead, behind, torch.ones(len(ahead))).item()
    assert margin_rank_loss(scores, margin=0.01, compat=True) == pytest.approx(wanted)
    assert margin_rank_loss(scores, margin=0.01) > wanted


def test_surprise_of_three_candidates() -> None:
    assert surprise([3, 2, 1], [-1, -2, -3]) == pytest.approx(0)
    assert surprise([3, 2, 1], [-3, -2, -1]) == pytest.approx(2)
    assert surprise([3, 2, 1], [-2, -1, -3]) == pytest.approx(2 / 3)
    assert surprise([1, 1, 1], [-2, -1, -3]) == 1


def test_qualities_are_normalised_on_the_pool() -> None:
    pool = {"rouge1": [0.0, 2.0], "bertscore": [10.0, 30.0]}
    found = qualities({"rouge1": [2.0, 1.0], "bertscore": [20.0, 40.0]}, pool)
    assert found == pytest.approx([(1 + 0) / 2, (0 + 2) / 2])
    with pytest.raises(LengthwiseError, match="metric 'rouge2': the pool has no spread"):
        qualities({"rouge2": [1.0]}, pool)


@pytest.mark.parametrize(
    ("strategy", "chosen"),
    [
        ("max_gap", (1, 0)), ("min_gap", (2, 3)), ("max_quality", (1, 2)), ("min_quality", (3, 0)),
        ("min_surprise", (1, 3)), ("max_length", (3, 0)), ("min_density", (3, 0)),
        ("max_likelihood", (2, 0)), ("min_beam", (1, 0)),
    ],
)  # fmt: skip
def test_sets_of_two(strategy: str, chosen: tuple[int, ...]) -> None:
    assert select(POOL, strategy, size=2) == chosen


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_orders_its_set_by_quality(strategy: str) -> None:
    alike = [[0.5] * len(POOL)] * len(POOL)
    chosen = select(POOL, strategy, size=3, similarity=alike)
    values = [POOL[place].quality for place in chosen]
    assert len(set(chosen)) == 3
    assert values == sorted(values, reverse=True)


def test_the_two_least_alike() -> None:
    alike = [[1.0, 0.9, 0.8, 0.1], [0.9, 1.0, 0.7, 0.6], [0.8, 0.7, 1.0, 0.5], [0.1, 0.6, 0.5, 1.0]]
    assert select(POOL, "max_diversity", size=2, similarity=alike) == (3, 0)
    assert select(POOL, "min_diversity", size=2, similarity=alike) == (1, 0)
    with pytest.raises(LengthwiseError, match="diversity needs the similarity"):
        select(POOL, "max_diversity", size=2)


def test_what_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="strategy 'best': allowed are random"):
        select(POOL, "best")
    with pytest.raises(LengthwiseError, match="a set of 5 from a pool of 4"):
        select(POOL, "random", size=5)


def test_the_example_of_the_page_runs() -> None:
    page = Path(__file__).parents[3] / "docs" / "evaluation.md"
    part = page.read_text(encoding="utf-8").partition("## Calibration sets\n")[2]
    found = re.search(r"```python\n(.*?)```", part, re.S)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found[1], page.name, "exec"), names)
    assert [names["pool"][place] for place in names["chosen"]] == [
        "The bridge fell, and nobody was hurt.", "A bridge was built.",
    ]  # fmt: skip
