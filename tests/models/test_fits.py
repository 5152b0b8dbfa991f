"""A model that does not fit is refused before its weights are read, with what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

import lengthwise
from lengthwise.errors import ModelError
from lengthwise.models import fits
from lengthwise.models.fits import weight_bytes
from tests.evaluation.drafting_cases import saved_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(saved_model(tmp_path_factory.mktemp("models") / "tiny"))


def test_bytes_are_those_of_the_loaded_model(folder: str) -> None:
    model = lengthwise.load(folder, "float32", "cpu").adapted.model
    size = sum(weight.numel() for weight in model.parameters())
    assert weight_bytes(folder, True, torch.float32) == 4 * size
    assert weight_bytes(folder, True, torch.bfloat16) == 2 * size


@pytest.mark.parametrize(
    ("share", "dtype", "said"),
    [
        (0.99, "float32", "dtype='bfloat16' takes .* GB, which fits"),
        (0.4, "float32", "weights='int8' takes .* GB, which fits"),
        (0.2, "float32", "take a smaller model or another device"),
        (0.2, "bfloat16", "take a smaller model or another device"),
    ],
)
def test_what_does_not_fit_is_said_with_what_is_missing(
    folder: str, monkeypatch: pytest.MonkeyPatch, share: float, dtype: str, said: str
) -> None:
    size = weight_bytes(folder, True, torch.float32)
    assert size is not None
    monkeypatch.setattr(fits, "free_memory", lambda swap: int(size * share))
    with pytest.raises(ModelError, match=said) as error:
        lengthwise.load(folder, dtype, "cpu")
    assert "GB are missing" in str(error.value) and "\n" not in str(error.value)
    monkeypatch.setattr(fits, "free_memory", lambda swap: None)
    lengthwise.load(folder, dtype, "cpu")


def test_a_large_model_is_told_from_its_configuration_alone(tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=128256, tie_word_embeddings=False,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    size = weight_bytes(str(tmp_path), True, torch.bfloat16)
    assert size is not None and 16.0e9 < size < 16.1e9


def test_what_cannot_be_told_is_left_to_the_loading(tmp_path: Path) -> None:
    assert weight_bytes(str(tmp_path), True, torch.bfloat16) is None
    (tmp_path / "config.json").write_text('{"model_type": "of nobody"}')
    assert weight_bytes(str(tmp_path), True, torch.bfloat16) is None
