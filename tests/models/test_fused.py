"""The fused forward reads the model's own weights: what is written shows at the next request."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

import lengthwise
from lengthwise.models import products
from tests.fused_models import DTYPES, ROUNDING, TEXT, check_equal, fused, made, stock

# Weights that change after `wrap`.


def load(model: Any) -> None:
    model.load_state_dict(made(model.dtype, seed=1).state_dict())


def load_assigned(model: Any) -> None:
    model.load_state_dict(made(model.dtype, seed=1).state_dict(), assign=True)


def step(model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0)
    ids = torch.tensor([TEXT])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def in_place(model: Any) -> None:
    model.model.layers[1].mlp.down_proj.weight.mul_(-5)


@torch.inference_mode()
def in_inference_mode(model: Any) -> None:
    model.model.layers[0].self_attn.v_proj.weight.mul_(-8)


def through_data(model: Any) -> None:
    model.model.layers[1].mlp.up_proj.weight.data.mul_(-5)


def one_row_through_data(model: Any) -> None:
    model.lm_head.weight.data[TEXT[7]] = 2.0


def swapped_rows(model: Any) -> None:
    rows = model.lm_head.weight.data
    rows[[TEXT[7], TEXT[9]]] = rows[[TEXT[9], TEXT[7]]]


def new_data(model: Any) -> None:
    for part in (model.model.layers[0].self_attn.k_proj, model.model.layers[1].mlp.gate_proj,
                 model.lm_head, model.model.norm):  # fmt: skip
        part.weight.data = part.weight.data.flip(0) * -2


def new_parameter(model: Any) -> None:
    part = model.model.layers[0].mlp.gate_proj
    part.weight = nn.Parameter(part.weight.detach().flip(0) * 4)


def resized(model: Any) -> None:
    model.resize_token_embeddings(160, mean_resizing=False)
    torch.nn.init.normal_(model.lm_head.weight.data)


def tied(model: Any) -> None:
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight


def a_norm(model: Any) -> None:
    model.model.layers[1].input_layernorm.weight.data = (
        model.model.layers[1].input_layernorm.weight.data.flip(0) * 3
    )


WRITES = [load, load_assigned, step, in_place, in_inference_mode, through_data,
          one_row_through_data, swapped_rows, new_data, new_parameter, resized, tied,
          a_norm]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("change", WRITES)
def test_weights_changed_after_wrap_are_those_used(
    change: Callable[[Any], None], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(dtype)
    wrapped = lengthwise.wrap(model)
    check_equal(wrapped)
    before = stock(model)
    change(model)
    assert float((stock(model) - before).abs().max()) > 0.5, "the change shows"
    check_equal(wrapped)
    assert fused(wrapped, monkeypatch), "changed weights are read again, not worked around"
    wrapped.close()
    check_equal(wrapped)


@pytest.mark.parametrize("dtype", DTYPES)
def test_biases_changed_after_wrap_are_those_used(dtype: torch.dtype) -> None:
    model = made(dtype, "qwen2")
    wrapped = lengthwise.wrap(model)
    for write in (lambda bias: bias.data.add_(2), lambda bias: bias.detach().mul_(-1)):
        write(model.model.layers[1].self_attn.v_proj.bias)
        check_equal(wrapped)
    bias = model.model.layers[0].self_attn.k_proj.bias
    bias.data = torch.randn_like(bias) * 3
    check_equal(wrapped)


@pytest.mark.parametrize("dtype", DTYPES)
def test_writes_to_weights_made_in_inference_mode_are_seen(dtype: torch.dtype) -> None:
    with torch.inference_mode():
        model = made(dtype)
    assert model.lm_head.weight.is_inference()
    wrapped = lengthwise.wrap(model)
    check_equal(wrapped)
    with torch.inference_mode():
        model.model.layers[1].mlp.down_proj.weight.mul_(-5)
    check_equal(wrapped)


@pytest.mark.parametrize("dtype", DTYPES)
def test_embeddings_resized_after_wrap_serve_their_new_tokens(dtype: torch.dtype) -> None:
    model = made(dtype)
    wrapped = lengthwise.wrap(model)
    resized(model)
    check_equal(wrapped, [*TEXT, 150, 159, 3])


def test_weights_in_memory_of_others_stay_there() -> None:
    model = made(torch.float32)
    attn = model.model.layers[0].self_attn
    parts = [attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight]
    flat = torch.cat([p.data.flatten() for p in parts])
    begin = 0
    for part in parts:
        part.data = flat[begin : begin + part.numel()].view_as(part)
        begin += part.numel()
    wrapped = lengthwise.wrap(model)
    flat.mul_(-2)  # As an optimiser with a flat buffer does.
    where = flat.untyped_storage().data_ptr()
    assert all(part.untyped_storage().data_ptr() == where for part in parts)
    check_equal(wrapped)


def test_memory_that_was_ours_is_not_when_somebody_else_has_it() -> None:
    model = made(torch.float32)
    attn = model.model.layers[0].self_attn
    parts = [attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight]
    whole = products._join(parts)
    assert all(map(products._alone, parts))
    place = whole.untyped_storage().data_ptr()
    for part in parts:
        part.data = part.data.clone()
    del whole
    assert products._JOINED[place].expired()


@pytest.mark.parametrize("change", [None, load_assigned, new_data])
def test_close_gives_weights_memory_of_their_own(change: Callable[[Any], None] | None) -> None:
    model = made(torch.float32)
    wrapped = lengthwise.wrap(model)
    wrapped.score(TEXT)
    if change is not None:
        change(model)
        wrapped.score(TEXT)
    wanted = {name: weight.clone() for name, weight in model.state_dict().items()}
    hooked = model.model.layers[0].mlp.register_forward_hook(lambda *_: None)
    wrapped.score(TEXT)
    wrapped.close()
    hooked.remove()
    for name, weight in model.named_parameters():
        assert weight.untyped_storage().nbytes() == weight.nbytes, name
        assert torch.equal(weight, wanted[name])


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_see_weights_that_another_one_changed(dtype: torch.dtype) -> None:
    model = made(dtype)
    wrapped = lengthwise.wrap(model)
    with ThreadPoolExecutor(4) as pool:
        for seed in (1, 2, 3):
            model.load_state_dict(made(dtype, seed=seed).state_dict(), assign=True)
            theirs = stock(model)
            for ours in pool.map(wrapped.score, [TEXT] * 8):
                error = float((ours - theirs).abs().max() / theirs.abs().max())
                assert error <= ROUNDING[dtype]
