"""Models that the tests of this folder share."""

from __future__ import annotations

import pytest
from transformers import PreTrainedModel

from lengthwise.testing.tiny import tiny_model


@pytest.fixture(scope="module")
def stock() -> PreTrainedModel:
    """A model that repeats itself, so that drafts come true."""
    return tiny_model("llama", vocab_size=64, initializer_range=0.3)
