"""Encoders in files: they come back as they were, and others are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.soft_contexts.base import SoftContext
from lengthwise.soft_contexts.files import KEY, EncoderError, load_encoder, save_encoder
from lengthwise.testing.tiny import tiny_model, tokens
from tests.soft_contexts.soft_cases import BOTH, EXTENSIBLE, stored


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made.encoder"


@pytest.mark.parametrize("how", BOTH, ids=str)
def test_an_encoder_comes_back(model: lengthwise.Model, path: Path, how: SoftContext) -> None:
    encoder = how.start(model.adapted)
    with torch.no_grad():
        for each in encoder.parameters():
            each.add_(0.01 * torch.randn_like(each))
    save_encoder(path, encoder, how, {"steps": 7})
    found, method, trained = load_encoder(path, model.adapted)
    assert (method, trained) == (how, {"steps": 7})
    assert torch.equal(found.encode(tokens(20)), encoder.encode(tokens(20)))
    assert not any(each.requires_grad for each in found.parameters())


def test_one_of_16_bits_is_held_in_16_bits(path: Path) -> None:
    narrow = lengthwise.wrap(tiny_model("llama").to(torch.bfloat16))
    stored(narrow, EXTENSIBLE, path)
    found, _, _ = load_encoder(path, narrow.adapted)
    assert {each.dtype for each in found.parameters()} == {torch.bfloat16}
    begun = EXTENSIBLE.start(narrow.adapted)
    assert {each.dtype for each in begun.parameters()} == {torch.float32}
    one, other = found.encode(tokens(20)).float(), begun.encode(tokens(20)).float()
    assert float((one - other).norm() / other.norm()) < 0.05


def changed(path: Path, change: str) -> None:
    held = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    said, name = json.loads(metadata[KEY]), next(iter(held))
    if change == "version":
        said["version"] = 99
    elif change == "dtype":
        said["dtype"] = "bfloat16"
    elif change == "model":
        said["fingerprint"] = "0" * 16
    elif change == "method":
        said["method"] = "no_such"
    elif change == "options":
        said["options"]["nothing"] = 1
    elif change == "lost":
        del held[name]
    elif change == "shape":
        held[name] = held[name][..., :-1].contiguous()
    elif change == "numbers":
        held[name] = held[name] * float("nan")
    elif change == "format":
        save_file(held, path, metadata={"format": "another"})
        return
    save_file(held, path, metadata={KEY: json.dumps(said)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("version", "is of format version 99.*train it again"),
        ("dtype", "was trained for a model in bfloat16, and this one runs in float32"),
        ("model", "was trained for a llama model of other weights"),
        ("method", "unknown soft context 'no_such'"),
        ("options", "is damaged"),
        ("lost", "is damaged .it has other weights than its method"),
        ("shape", "is damaged"),
        ("numbers", "is damaged.*no numbers"),
        ("format", "holds no encoder"),
    ],
)
def test_another_or_a_damaged_one_is_refused(
    model: lengthwise.Model, path: Path, change: str, words: str
) -> None:
    changed(stored(model, EXTENSIBLE, path), change)
    with pytest.raises(LengthwiseError, match=words):
        load_encoder(path, model.adapted)


def test_no_file_and_a_torn_one_are_one_line(model: lengthwise.Model, path: Path) -> None:
    with pytest.raises(EncoderError, match="there is no such file"):
        load_encoder(path, model.adapted)
    stored(model, EXTENSIBLE, path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(EncoderError, match="is damaged"):
        load_encoder(path, model.adapted)
    path.write_text("no tensors")
    with pytest.raises(EncoderError, match="is damaged"):
        load_encoder(path, model.adapted)
    with pytest.raises(EncoderError, match="cannot be written"):
        save_encoder(path / "below", EXTENSIBLE.start(model.adapted), EXTENSIBLE, {})
