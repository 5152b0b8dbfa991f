"""The fused forward is the model's own: whatever is done to the model shows at the next request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaMLP

import lengthwise
from lengthwise.conformance.tiny import tiny_model, tokens
from lengthwise.errors import LengthwiseError, UnsupportedModel
from lengthwise.models import seam

TEXT = tokens(30)
DTYPES = [torch.float32, torch.bfloat16]
# Rounding of log-probabilities, as a share of the largest; what is changed below shows in all.
ROUNDING = {torch.float32: 3e-6, torch.bfloat16: 0.03}


def made(dtype: torch.dtype, family: str = "llama", **changes: Any) -> PreTrainedModel:
    return tiny_model(family, **changes).to(dtype)  # type: ignore[arg-type]


@torch.no_grad()
def stock(model: Any, text: list[int] = TEXT) -> torch.Tensor:
    """Log-probabilities `[n - 1]` by the model itself."""
    logits = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, :-1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(text)[1:, None])[:, 0]


def check_equal(wrapped: lengthwise.Model, text: list[int] = TEXT) -> None:
    """Scores and greedy text are the stock model's as it is now."""
    model = wrapped.adapted.model
    theirs = stock(model, text)
    error = float((wrapped.score(text) - theirs).abs().max() / theirs.abs().max())
    assert error <= ROUNDING[model.dtype], error
    if model.dtype == torch.float32:
        ours = wrapped.generate(text, max_new_tokens=8, stop_ids=[]).token_ids
        made = model.generate(
            torch.tensor([text]), max_new_tokens=8, do_sample=False, eos_token_id=None
        )
        assert ours == made[0, len(text) :].tolist()


@contextmanager
def plain_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A list that grows with each forward through the model's own modules."""
    seen: list[int] = []
    before = seam.engaged

    def engaged(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return before(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(seam, "engaged", engaged)
        yield seen


def fused(wrapped: lengthwise.Model, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a request goes through the fused forward alone."""
    with plain_passes(monkeypatch) as seen:
        wrapped.score(TEXT)
    return not seen


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
    assert attn.v_proj.weight.data_ptr() > flat.data_ptr()
    check_equal(wrapped)


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

    watch = fast._parts.watch
    sys.setprofile(count)
    try:
        watch.same()
    finally:
        sys.setprofile(None)
    assert calls[0] <= 3 * len(list(model.modules()))
