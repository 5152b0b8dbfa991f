"""A model that does not fit is refused before its weights are read, with what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

import lengthwise
from lengthwise.errors import ModelError
from lengthwise.models import fits
from lengthwise.models.fits import require_unpacked_fits, weight_bytes
from lengthwise.models.gguf_files import load_gguf_model
from lengthwise.models.placing import Placing, placing
from tests.evaluation.drafting_cases import saved_model
from tests.models.gguf_cases import ROPE_BASE, small_llama, write_gguf

PLAIN = {**ROPE_BASE, "rope_type": "default"}


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
        (0.2, "float32", "device_map='auto' puts the rest"),
        (0.2, "bfloat16", "device_map='auto' puts the rest"),
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


@pytest.mark.parametrize("options", [{}, {"weights": "int4"}, {"device_map": "auto"}])
@pytest.mark.parametrize(
    ("share", "dtype", "said"),
    [
        (0.99, "float32", "unpacked to float32, .* dtype='bfloat16' takes .* GB, which fits"),
        (0.49, "float32", "a folder of safetensors takes less here"),
        (0.49, "bfloat16", "unpacked to bfloat16, .* a folder of safetensors takes less here"),
    ],
)
def test_a_gguf_file_has_to_fit_unpacked_wherever_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, dtype: str, said: str,
    options: dict[str, Any],
) -> None:  # fmt: skip
    path, model = tmp_path / "small.gguf", small_llama(PLAIN)
    write_gguf(path, model, {}, {}, "Q4_0")
    size = 4 * sum(weight.numel() for weight in model.parameters())
    monkeypatch.setattr(fits, "free_memory", lambda swap: int(size * share))
    with pytest.raises(ModelError, match=said) as error:
        lengthwise.load(path, dtype, **options)
    assert "GB are missing" in str(error.value) and "\n" not in str(error.value)
    monkeypatch.setattr(fits, "free_memory", lambda swap: size)
    load_gguf_model(path, torch.float32, placing("cpu"))


def test_a_gguf_file_has_to_fit_on_its_device_too(monkeypatch: pytest.MonkeyPatch) -> None:
    there = torch.device("cuda", 1)
    monkeypatch.setattr(fits, "free_on", lambda where: 399 if where == there else 400)
    path = Path("small.gguf")
    with pytest.raises(ModelError, match="on cuda:1: .* dtype='bfloat16' takes"):
        require_unpacked_fits(path, 100, torch.float32, Placing(there))
    with pytest.raises(ModelError, match="on cuda:1: .* device_map='auto' puts the rest"):
        require_unpacked_fits(path, 200, torch.bfloat16, Placing(there))
    # How much of it fewer bits or a map put there is not known.
    require_unpacked_fits(path, 100, torch.float32, Placing(there, weights="int4"))
    require_unpacked_fits(path, 100, torch.float32, Placing(there, "auto"))
    require_unpacked_fits(path, 99, torch.float32, Placing(there))


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
