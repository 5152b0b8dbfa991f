"""Models that the tests of this folder share."""

from __future__ import annotations

import pytest

from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model
from tests.methods.selection.selection_runs import FAMILIES


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> AdaptedModel:
    return adapt(tiny_model(request.param, initializer_range=0.15))


@pytest.fixture(scope="module")
def llama() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15))
