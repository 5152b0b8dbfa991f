"""A tiny saved model, read once for each module of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import lengthwise
from tests.evaluation.drafting_cases import saved_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> lengthwise.Model:
    return lengthwise.load(str(folder), "float32", "cpu")
