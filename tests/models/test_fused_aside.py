"""The fused forward steps aside for hooks, other modules and other weights, and comes back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers.models.llama.modeling_llama import LlamaMLP

import lengthwise
from lengthwise.errors import LengthwiseError, UnsupportedModel
from tests.fused_models import DTYPES, TEXT, check_equal, fused, made, stock

# Hooks, forwards and modules that change after `wrap`, and what takes them away again.

Undo = Callable[[], object]


def hook_on(name: str, pre: bool = False) -> Callable[[Any], Undo]:
    def put(model: Any) -> Undo:
        module = model.get_submodule(name)
        if pre:
            return module.register_forward_pre_hook(
                lambda _, args, kw: ((args[0] * -2, *args[1:]), kw) if args else
                (args, {**kw, "hidden_states": kw["hidden_states"] * -2}), with_kwargs=True,
            ).remove  # fmt: skip
        return module.register_forward_hook(
            lambda _, __, out: (out[0] * -2, *out[1:]) if isinstance(out, tuple) else out * -2
        ).remove

    put.__name__ = f"{'pre_' if pre else ''}hook_on_{name}"
    return put


def hook_on_all(model: Any) -> Undo:
    def double(module: nn.Module, _: Any, out: Any) -> Any:
        return out * 2 if isinstance(module, LlamaMLP) else None

    return register_module_forward_hook(double).remove


def other_mlp(model: Any) -> Undo:
    layer = model.model.layers[0]
    before, layer.mlp = layer.mlp, nn.Linear(64, 64, dtype=model.dtype)
    return lambda: setattr(layer, "mlp", before)


def other_activation(model: Any) -> Undo:
    mlp = model.model.layers[0].mlp
    before, mlp.act_fn = mlp.act_fn, nn.Tanh()
    return lambda: setattr(mlp, "act_fn", before)


def other_forward(model: Any) -> Undo:
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: x * 3
    return lambda: delattr(mlp, "forward")


def other_class_forward(model: Any) -> Undo:
    before = LlamaMLP.forward
    LlamaMLP.forward = lambda self, x: x * 3
    return lambda: setattr(LlamaMLP, "forward", before)


def other_class(model: Any) -> Undo:
    class Threefold(LlamaMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 3

    model.model.layers[0].mlp.__class__ = Threefold
    return lambda: setattr(model.model.layers[0].mlp, "__class__", LlamaMLP)


def parametrized(model: Any) -> Undo:
    class Negative(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -2 * x

    down = model.model.layers[0].mlp.down_proj
    nn.utils.parametrize.register_parametrization(down, "weight", Negative())
    return lambda: nn.utils.parametrize.remove_parametrizations(down, "weight", False)


class LoraLinear(nn.Module):
    """What peft puts in place of a linear layer."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.Linear(
            base_layer.in_features, 4, bias=False, dtype=base_layer.weight.dtype
        )
        self.lora_B = nn.Linear(
            4, base_layer.out_features, bias=False, dtype=base_layer.weight.dtype
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + 4 * self.lora_B(self.lora_A(x))


def lora_by_hand(model: Any) -> Undo:
    mlp = model.model.layers[0].mlp
    base, mlp.down_proj = mlp.down_proj, LoraLinear(mlp.down_proj)
    return lambda: setattr(mlp, "down_proj", base)


def lora(model: Any) -> Undo:
    peft = pytest.importorskip("peft")
    model.add_adapter(
        peft.LoraConfig(
            init_lora_weights=False, lora_alpha=64, target_modules=["q_proj", "up_proj"]
        )
    )
    model.eval()
    return lambda: model.delete_adapter("default")


HOOKS = [hook_on(name) for name in (
    "model.embed_tokens", "model.layers.0", "model.layers.1.self_attn", "model.layers.1.mlp",
    "model.layers.0.mlp.act_fn", "model.layers.0.mlp.down_proj", "model.layers.1.input_layernorm",
    "model.norm", "lm_head",
)]  # fmt: skip
PRE_HOOKS = [hook_on(name, True) for name in ("model.layers.0", "model.layers.1.mlp", "lm_head")]
CHANGES = [*HOOKS, *PRE_HOOKS, hook_on_all, other_mlp, other_activation, other_forward,
           other_class_forward, other_class, parametrized, lora_by_hand, lora]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("change", CHANGES)
def test_the_fused_forward_steps_aside_and_comes_back(
    change: Callable[[Any], Undo], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(dtype)
    wrapped = lengthwise.wrap(model)
    before = stock(model)
    assert fused(wrapped, monkeypatch)
    undo = change(model)
    try:
        assert float((stock(model) - before).abs().max()) > 0.3, "the change shows"
        check_equal(wrapped)
        assert not fused(wrapped, monkeypatch)
    finally:
        undo()
    check_equal(wrapped)
    if change is not lora:  # peft leaves modules of its own behind.
        assert fused(wrapped, monkeypatch)


BEFORE = [hook_on("model.layers.1.mlp"), hook_on("model.norm"), other_forward, other_activation,
          lora_by_hand, lora]  # fmt: skip


@pytest.mark.parametrize("change", BEFORE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_there_before_wrap_is_served_too(
    change: Callable[[Any], Undo], dtype: torch.dtype
) -> None:
    model = made(dtype)
    change(model)
    check_equal(lengthwise.wrap(model))


def test_a_recording_hook_on_an_mlp_sees_every_forward() -> None:
    model = made(torch.float32)
    seen: list[int] = []
    model.model.layers[0].mlp.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    wrapped = lengthwise.wrap(model)
    seen.clear()
    wrapped.generate(TEXT, max_new_tokens=4, stop_ids=[])
    assert seen == [len(TEXT), 1, 1, 1]


def test_hooks_that_transformers_leaves_behind_do_not_cost_the_fused_forward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = made(torch.float32)
    wrapped = lengthwise.wrap(model)
    model(input_ids=torch.tensor([TEXT]), output_hidden_states=True)
    assert model.model.layers[0]._forward_hooks
    assert fused(wrapped, monkeypatch)
    check_equal(wrapped)


# What the fused forward never serves.


class Int8Weight(torch.Tensor):
    """A weight in 8 bits as torchao's: knows what a linear layer needs, and no other operator."""

    @staticmethod
    def __new__(cls, codes: torch.Tensor, scale: torch.Tensor) -> Int8Weight:
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=scale.dtype)

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor) -> None:
        self.codes, self.scale = codes, scale

    @classmethod
    def of(cls, weight: torch.Tensor) -> Int8Weight:
        scale = weight.abs().amax(1, keepdim=True) / 127
        return cls((weight / scale).round().to(torch.int8), scale)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.nn.functional.linear:
            x, weight, *bias = args
            return function(x, weight.codes.to(x.dtype) * weight.scale, *bias)
        return super().__torch_function__(function, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten.detach.default:
            return cls(args[0].codes, args[0].scale)
        raise NotImplementedError(f"Int8Weight has no {function}")


def in_8_bits(model: Any) -> None:
    for module in model.model.layers.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(Int8Weight.of(module.weight.detach()), requires_grad=False)


def by_torchao(model: Any) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())


@pytest.mark.parametrize("quantize", [in_8_bits, by_torchao])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_a_type_of_their_own_are_served_by_the_plain_path(
    dtype: torch.dtype, quantize: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(dtype)
    later = lengthwise.wrap(made(dtype))
    quantize(model)
    wrapped = lengthwise.wrap(model)
    check_equal(wrapped)
    assert not fused(wrapped, monkeypatch)
    quantize(later.adapted.model)
    check_equal(later)
    assert not fused(later, monkeypatch)


def test_weights_shared_by_layers_of_one_product_are_served_by_the_plain_path() -> None:
    model = made(torch.float32)
    attn = model.model.layers[0].self_attn
    attn.v_proj.weight = attn.k_proj.weight
    model.model.layers[1].self_attn.k_proj.weight = attn.k_proj.weight
    wrapped = lengthwise.wrap(model)
    attn.k_proj.weight.data.mul_(-2)
    check_equal(wrapped)
    assert model.model.layers[1].self_attn.k_proj.weight is attn.v_proj.weight


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_that_begins_after_wrap_is_refused_by_name_until_eval(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(dtype, attention_dropout=0.5)
    wrapped = lengthwise.wrap(model)
    model.train()
    with pytest.raises(LengthwiseError, match=r"attention_dropout=0\.5.*model\.eval\(\)"):
        wrapped.generate(TEXT, max_new_tokens=2)
    model.eval()
    check_equal(wrapped)
    model.model.layers[1].self_attn.train()
    with pytest.raises(LengthwiseError, match=r"layers\.1\.self_attn.*attention_dropout=0\.5"):
        wrapped.score(TEXT)
    model.eval()
    assert fused(wrapped, monkeypatch)


@pytest.mark.parametrize("family", ["mistral", "qwen3"])
def test_a_window_or_scaling_changed_after_wrap_is_refused_by_name(family: str) -> None:
    model: Any = made(torch.float32, family)
    wrapped = lengthwise.wrap(model)
    model.config.sliding_window = 5
    with pytest.raises(UnsupportedModel, match="sliding_window was .* wrap it again"):
        wrapped.score(TEXT)
    model = made(torch.float32, family)
    wrapped = lengthwise.wrap(model)
    model.model.layers[0].self_attn.scaling *= 2
    with pytest.raises(UnsupportedModel, match="scaling.*layer 0"):
        wrapped.score(TEXT)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_a_model_moved_after_wrap_is_refused_by_name(family: str) -> None:
    model = made(torch.float32, family)
    wrapped = lengthwise.wrap(model)
    model.to(torch.bfloat16)
    with pytest.raises(UnsupportedModel, match=r"dtype was torch\.float32 when .*wrap it again"):
        wrapped.generate(TEXT, max_new_tokens=2)
    check_equal(lengthwise.wrap(model))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_layers_replaced_after_wrap_are_refused_by_name(family: str) -> None:
    model: Any = made(torch.float32, family)
    wrapped = lengthwise.wrap(model)
    model.model.layers[0] = made(torch.float32, family, seed=1).model.layers[0]
    if family == "llama":  # Its layer is one that the fused forward can take over whole.
        check_equal(wrapped)
    model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_: None)
    with pytest.raises(UnsupportedModel, match="not those that were adapted; wrap it again"):
        wrapped.score(TEXT)


def test_sinks_replaced_after_wrap_are_refused_by_name() -> None:
    model: Any = made(torch.float32, "gpt_oss")
    wrapped = lengthwise.wrap(model)
    attn = model.model.layers[1].self_attn
    attn.sinks.data.add_(1)
    check_equal(wrapped)
    attn.sinks.data = attn.sinks.data + 1
    with pytest.raises(UnsupportedModel, match="sinks of layer 1"):
        wrapped.score(TEXT)


def test_a_look_at_the_model_is_a_few_calls_a_module() -> None:
    """Counted, not timed: two or so a module, each far below a microsecond, where a forward through
    the modules makes some hundred."""
    model = made(torch.bfloat16, num_hidden_layers=6)
    wrapped = lengthwise.wrap(model)
    wrapped.score(TEXT)
    fast: Any = wrapped.adapted.fast
    calls = [0]

    def count(_: Any, event: str, __: Any) -> None:
        calls[0] += event in ("call", "c_call")

    snapshot = fast._parts.snapshot
    sys.setprofile(count)
    try:
        snapshot.same()
    finally:
        sys.setprofile(None)
    assert calls[0] <= 3 * len(list(model.modules()))
