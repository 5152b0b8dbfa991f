"""What leaves a window is read where it will be read as a far key, rotated in time or not."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens
from tests.methods.selection.selection_runs import read_all

LENGTH = 72
SELECTIONS = (
    "infllm(budget=36, window=16, init=4, block=4, query_block=16, representatives=2)",
    "act_qkv(budget=36, window=16, init=4, block=4, query_block=16, representatives=2)",
    "lm_infinite(window=16, sinks=4, top_k=5, top_k_at=16, top_k_from=0)",
    "self_extend(window=16)",
)
GROWING = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}


def model(**changes: Any) -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15, **changes))


def difference(mine: AdaptedModel, more: str, selection: str) -> float:
    """Between a selection alone on a model that does not grow, and with frequencies that may."""
    plain, text = model(), tokens(LENGTH)
    right = read_all(plain, resolve(selection, plain), text, 16, 8)
    found = read_all(mine, resolve(more + selection, mine), text, 16, 8)
    return float((found - right).abs().max())


@pytest.mark.parametrize("selection", SELECTIONS)
def test_dynamic_frequencies_change_nothing_below_the_trained_length(selection: str) -> None:
    assert difference(model(), "dynamic_ntk + ", selection) < 1e-4


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_model_whose_frequencies_grow_is_one_that_does_not_below_its_length(
    selection: str,
) -> None:
    assert difference(model(rope_parameters=GROWING), "", selection) < 1e-4
