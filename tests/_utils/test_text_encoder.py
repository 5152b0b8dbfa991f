"""Encoders read where the machine is fastest, and vectors come back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lengthwise._utils import devices
from lengthwise._utils.text_encoder import TextEncoder
from lengthwise.methods.prompting._shared.encoders import example_encoder

TEXTS = ["the red door", "a", "a cup of tea"]


class Read(Exception):
    """The encoder was reached."""


def test_model_and_texts_are_brought_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "fastest_device", lambda: torch.device("meta"))
    encoder, seen = TextEncoder(example_encoder()), set[str]()

    def forward(**given: Any) -> None:
        seen.update(each.device.type for each in given.values())
        raise Read

    encoder.model.forward = forward
    with pytest.raises(Read):
        encoder.embed(TEXTS)
    assert encoder.model.device.type == "meta" and seen == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_vectors_of_a_gpu_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    there = TextEncoder(example_encoder())
    monkeypatch.setattr(devices, "fastest_device", lambda: torch.device("cpu"))
    here = TextEncoder(example_encoder())
    assert there.model.device.type == "cuda" and here.model.device.type == "cpu"
    found = there.embed(TEXTS)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, here.embed(TEXTS), atol=1e-4, rtol=1e-4)
