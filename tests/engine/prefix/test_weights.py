"""The state of weights: another after every way to change them, and after none else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lengthwise.engine.prefix.weights import state_of
from lengthwise.testing.tiny import tiny_model


def put(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(layer.weight.detach() * 2)


def write(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight[-1, -1] += 1


def write_unseen(layer: nn.Linear) -> None:
    layer.weight.data += 0.5


def move(layer: nn.Linear) -> None:
    layer.weight.data = layer.weight.data + 0.5


@pytest.mark.parametrize("change", [put, write, write_unseen, move])
def test_it_is_another_after_every_change(change: Callable[[nn.Linear], None]) -> None:
    model = tiny_model("llama")
    before = state_of(model)
    with torch.no_grad():
        model(torch.arange(1, 9)[None])
    assert state_of(model) == before
    change(model.model.layers[1].mlp.down_proj)
    after = state_of(model)
    assert after != before and state_of(model) == after


def test_weights_of_all_kinds_have_one() -> None:
    model = nn.Module()
    with torch.inference_mode():
        model.register_buffer("inference", torch.ones(3))
    kinds = (torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool, torch.float16)
    for number, dtype in enumerate(kinds):
        model.register_buffer(f"kind{number}", torch.zeros(2, 70, 3).to(dtype))
    for name, shape in (("scalar", ()), ("empty", (0, 4)), ("vector", (5,))):
        model.register_buffer(name, torch.zeros(shape))
    model.register_buffer("turned", torch.zeros(4, 6).T)
    model.register_buffer("weightless", torch.zeros(4, device="meta"))
    before = state_of(model)
    assert state_of(model) == before
    for name, tensor in list(model.named_buffers()):
        if name not in ("empty", "weightless"):
            with torch.inference_mode():
                tensor[(0,) * tensor.dim()] = 2
            after = state_of(model)
            assert after != before, name
            before = after
