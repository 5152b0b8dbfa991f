"""Rules of composition that ask what a method does, not what it is called."""

from __future__ import annotations

import pytest

from lengthwise.errors import Refused
from lengthwise.methods import calibration
from lengthwise.methods.gates import KIND
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model

LINES = "minference(pattern=a_shape)"


@pytest.fixture
def gated() -> AdaptedModel:
    """A model of which one layer has heads of both kinds."""
    model = adapt(tiny_model("llama", seed=11))
    calibration.save(KIND, model, {"gates": [[0.9, 0.1], [0.0, 0.3]]})
    return model


@pytest.mark.parametrize("other", ["ems", "h2o", "tova"])
def test_a_choice_for_prompts_bears_nobody_who_sums_what_all_queries_give(other: str) -> None:
    for recipe in (f"{LINES} + {other}", f"{other} + {LINES}"):
        with pytest.raises(Refused, match="leaves most keys of a prompt unread") as refused:
            resolve(recipe, tiny("llama"))
        assert "minference" in str(refused.value) and "snapkv" in refused.value.remedy


@pytest.mark.parametrize("other", ["snapkv", "expected_attention", "adakv", "pyramidkv"])
def test_it_bears_who_looks_once_a_prompt_is_complete(other: str) -> None:
    assert resolve(f"{LINES} + {other}", tiny("llama")).selector is not None


def test_a_choice_for_prompts_bears_no_layer_whose_heads_keep_unequal_numbers(
    gated: AdaptedModel,
) -> None:
    with pytest.raises(Refused, match="heads that keep unequal numbers"):
        resolve(f"{LINES} + duo", gated)
    # Whole layers that keep less are no reason, and a choice while decoding goes with both.
    for recipe in (f"{LINES} + longgen", f"{LINES} + duo(heads=1)", "quest + duo"):
        assert resolve(recipe, gated).head_table is not None
