"""Models that the tests of this folder share."""

from __future__ import annotations

import pytest

from lengthwise.models.adapted_model import AdaptedModel
from tests.methods.positions.position_runs import adapted_tiny


@pytest.fixture(scope="module")
def llama() -> AdaptedModel:
    return adapted_tiny()
