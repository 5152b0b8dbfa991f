"""What every test gets: no network, and the same random numbers each time."""

from __future__ import annotations

import os

# Read by huggingface_hub when it is first imported, hence here and not in a fixture: a test that
# forgets to stay local fails at once instead of waiting for a hub it cannot reach.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
