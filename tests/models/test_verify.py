"""The comparison with the stock model: what is wrong is caught, what is right is never refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import lengthwise
from lengthwise.api.support import check
from lengthwise.engine.attention.attend import Part
from lengthwise.engine.attention.scores import attend_plain
from lengthwise.errors import UnsupportedModel
from lengthwise.models import (
    adapt as adapting,
    attention_hook,
    fused,
    obstacles,
    plain_attention as reference,
    sample,
    verify,
)
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model, tokens

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SMALL = {"initializer_range": 0.02}
# What each mutation needs a family to have, and which have it.
ALL = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt_oss", "mistral", "phi", "glm")
WINDOWED = ("gemma2", "gemma3_text", "gpt_oss", "mistral")

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def attention_with(
    shift: int = 0, masked: bool = True, windows: bool = True, wide: int = 0, swap: bool = False
) -> Callable[[AdaptedModel, Tensor], Attention]:
    """The reference attention with a fault. shift: of the keys' positions. wide: keys that a window
    shows beyond its edge. swap: two heads of queries change places."""

    def plain(adapted: AdaptedModel, positions: Tensor) -> Attention:
        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            facts = adapted.layers[layer]
            if swap:
                order = [1, 0, *range(2, len(query))]
                query = query[order]
            if facts.layout is not None and adapted.rope is not None:
                kind = facts.rotary_type
                length = int(positions[-1]) + 1
                at = adapted.rope.angles(facts.layout, kind, positions, length=length)
                moved = adapted.rope.angles(facts.layout, kind, positions + shift, length=length)
                query, key = facts.layout.rotate(query, at), facts.layout.rotate(key, moved)
            order = torch.arange(len(positions))
            distance = order[:, None] - order[None]
            mask = distance >= 0 if masked else torch.ones_like(distance, dtype=torch.bool)
            if facts.window is not None and windows:
                mask = mask & (distance < facts.window + wide)
            part = Part(query, key, value, mask)
            return attend_plain([part], facts.scaling, facts.softcap, facts.sinks)[0]

        return attention

    return plain


def other_facts(**changes: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda layers: [replace(layer, **changes) for layer in layers]


def build(family: str, dtype: torch.dtype, **changes: Any) -> PreTrainedModel:
    return tiny_model(family, **changes).to(dtype)


def refused(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, **faults: Any) -> bool:
    if "facts" in faults:
        change, asked = faults["facts"], adapting.layer_facts
        monkeypatch.setattr(adapting, "layer_facts", lambda model: change(asked(model)))
        # Each forward asks too whether the model is what was adapted; here the comparison is asked.
        monkeypatch.setattr(obstacles, "refuse_changed", lambda *_: None)
    else:
        monkeypatch.setattr(reference, "plain_attention", attention_with(**faults))
    try:
        adapt(model)
    except UnsupportedModel as error:
        return "from the stock model's" in str(error)
    return False


MUTATIONS = {
    "positions off by one": ({"shift": 1}, ALL),
    "mask lost": ({"masked": False}, (*ALL, "gpt2", "opt")),
    "window ignored": ({"windows": False}, WINDOWED),
    "window one too wide": ({"wide": 1}, WINDOWED),
    "two heads swapped": ({"swap": True}, (*ALL, "gpt2", "opt")),
    "softcap dropped": ({"facts": other_facts(softcap=None)}, ("gemma2",)),
    "sinks dropped": ({"facts": other_facts(sinks=None)}, ("gpt_oss",)),
    "scaling forgotten": ({"facts": other_facts(scaling=1.0)}, ("llama", "gemma2", "gpt2")),
    "rotation forgotten": ({"facts": other_facts(layout=None)}, ("llama", "phi", "gpt_oss")),
}
CASES = [(name, family) for name, (_, families) in MUTATIONS.items() for family in families]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("mutation", "family"), CASES)
def test_a_fault_is_caught(
    mutation: str, family: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, _ = MUTATIONS[mutation]
    model = build(family, dtype)
    adapt(model)  # Rightly adapted it is not refused.
    assert refused(model, monkeypatch, **faults)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mutation", ["positions off by one", "mask lost", "two heads swapped"])
def test_a_fault_is_caught_where_weights_are_small_or_layers_many(
    mutation: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, _ = MUTATIONS[mutation]
    small, deep = build("llama", dtype, **SMALL), build("qwen2", dtype, num_hidden_layers=24)
    with monkeypatch.context() as patch:
        assert refused(small, patch, **faults)
    assert refused(deep, monkeypatch, **faults)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_fault_in_one_late_kind_of_layer_is_caught(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Five layers of one kind before the one whose facts are wrong.
    model = build("gemma3_text", dtype, num_hidden_layers=6,
                  layer_types=["sliding_attention"] * 5 + ["full_attention"])  # fmt: skip
    adapt(model)

    def last(layers: list[Any]) -> list[Any]:
        return [*layers[:-1], replace(layers[-1], window=8)]

    assert refused(model, monkeypatch, facts=last)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("depth", "scale"), [(24, 0.02), (24, 0.5), (48, 0.1), (80, 0.1)])
def test_deep_models_are_not_refused(depth: int, scale: float, dtype: torch.dtype) -> None:
    if dtype == torch.float16 and scale == 0.5:
        dtype = (
            torch.bfloat16
        )  # Random weights as large as these overflow in 16 bits of 5 exponent.
    for family in ("llama", "qwen2"):
        adapted = adapt(build(family, dtype, num_hidden_layers=depth, initializer_range=scale))
        # Neither refused, nor its fused forward left out, nor a comparison skipped.
        assert adapted.fast is not None and adapted.notes == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias", [10.0, 60.0])
def test_large_activations_are_not_refused(bias: float, dtype: torch.dtype) -> None:
    """Biases of queries and keys that are a hundred times what the weights give, as Qwen's."""
    model = tiny_model("qwen2", num_hidden_layers=28)
    for index, layer in enumerate(model.model.layers):
        generator = torch.Generator().manual_seed(index)
        for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            linear.bias.data = bias * torch.randn(len(linear.bias), generator=generator)
    model.model.embed_tokens.weight.data[:, 3] *= 200  # A channel that stands out.
    adapted = adapt(model.to(dtype))
    assert adapted.fast is not None and adapted.notes == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_experts_and_latent_attention_are_not_refused(dtype: torch.dtype) -> None:
    for family in ("mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "minicpm3"):
        for seed in range(3):
            assert adapt(tiny_model(family, seed).to(dtype)).notes == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_users_model_is_the_same_after_the_comparison(dtype: torch.dtype) -> None:
    for family in ("llama", "gemma2", "gpt_oss", "gpt2"):
        model = build(family, dtype)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        pointers = [parameter.data_ptr() for parameter in model.parameters()]
        text = torch.tensor([tokens(20)])
        with torch.no_grad():
            first = model(text).logits
            adapt(model, fuse=False)
            assert torch.equal(model(text).logits, first)
        assert pointers == [parameter.data_ptr() for parameter in model.parameters()]
        assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rope_type", ["longrope", "dynamic"])
def test_frequencies_beyond_a_switch_are_compared_too(
    rope_type: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    longrope = {
        "rope_type": "longrope", "short_factor": [1.0] * 8, "rope_theta": 1e4,
        "long_factor": [1.0 + 3 * i for i in range(8)], "original_max_position_embeddings": 4096,
    }  # fmt: skip
    rope = longrope if rope_type == "longrope" else {"rope_type": rope_type, "factor": 4.0,
                                                     "rope_theta": 1e4}  # fmt: skip
    model = build("llama", dtype, rope_parameters=rope, max_position_embeddings=4096)
    assert adapt(model).switch == 4096
    # What a model that never changes would have.
    from lengthwise.models.frequencies import OwnFrequencies

    first = OwnFrequencies.at
    monkeypatch.setattr(OwnFrequencies, "at", lambda self, kind, length: first(self, kind, 1))
    with pytest.raises(UnsupportedModel, match="from the stock model's"):
        adapt(model)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_fused_forward_that_differs_is_left_out_with_a_note(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, text = build("llama", dtype), torch.tensor([tokens(20)])
    with torch.no_grad():
        stock = model(text).logits
    norm = fused._norm
    monkeypatch.setattr(fused, "_norm", lambda *given: norm(*given) * 1.2)
    adapted = adapt(model)
    assert adapted.fast is None
    assert "fused forward was left out" in str(check(adapted))
    with torch.no_grad():
        assert torch.equal(model(text).logits, stock)
    monkeypatch.undo()
    assert adapt(model).fast is not None


def test_what_is_read_reaches_past_small_windows_and_is_text_where_it_can_be() -> None:
    adapted = adapt(tiny_model("mistral", sliding_window=100), verify=False)
    assert sample.count_of(adapted) == 100 + sample.BEHIND
    ids = sample.sample_ids(adapted, 60).tolist()
    assert len(set(ids)) < 40, "tokens come again, as in a text"
    embedded = lengthwise.load(dtype="bf16", device="cpu")
    ids = sample.sample_ids(embedded.adapted, 60).tolist()
    assert embedded.tokenizer is not None
    assert embedded.tokenizer.decode(ids).startswith("The keeper of the lighthouse")


@pytest.mark.parametrize("dtype", ["bf16", "fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_real_weights_are_not_refused(dtype: str) -> None:
    model = lengthwise.load(dtype=dtype, device="cpu")
    assert model.adapted.fast is not None
    assert model.adapted.notes == []


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_products_in_a_shorter_format_change_nothing(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        adapt(tiny_model("llama", num_hidden_layers=12))
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_kernels_that_round_are_told_from_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    # A GPU may compute attention of float32 in a format with ten bits, of which it says nothing.
    own = attention_hook.own_attention

    def rounded(
        module: Any, query: Tensor, key: Tensor, value: Tensor, *mask: Any, **info: Any
    ) -> Any:
        short = [x.to(torch.bfloat16).to(x.dtype) for x in (query, key, value)]
        return own(module, *short, *mask, **info)

    model = tiny_model("qwen3")
    monkeypatch.setattr(attention_hook, "own_attention", rounded)
    with pytest.raises(UnsupportedModel, match="differs from the stock model's"):
        adapt(model)
    monkeypatch.setattr(verify.Stock, "_kernels_round", True)
    adapt(model)
    for name in ("positions off by one", "mask lost", "two heads swapped"):
        with monkeypatch.context() as patch:
            assert refused(model, patch, **MUTATIONS[name][0])


def test_logits_that_are_no_numbers_are_not_taken_for_a_wrong_seam() -> None:
    model = tiny_model("gemma", vocab_size=512, tie_word_embeddings=False).half()
    model.model.embed_tokens.weight.data[500] = 20000
    adapt(model)  # One token overflows, and no plain text has it.
    model.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(UnsupportedModel, match="logits are not finite .* in float16"):
        adapt(model)


def test_a_cap_that_sdpa_leaves_out_is_no_fault_of_the_seam(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """transformers before 5.23 runs gemma 2 by an SDPA that knows no cap."""
    from transformers import AttentionInterface

    plain = AttentionInterface()["sdpa"]

    def older(*args: Any, softcap: float | None = None, **info: Any) -> Any:
        return plain(*args, **info)

    # A cap that bites: the two differ by more than rounding.
    model = tiny_model("gemma2", initializer_range=0.3, attn_logit_softcapping=5.0)
    exact = adapt(model)
    assert not exact.notes
    ids = torch.tensor(tokens(40))
    with torch.no_grad():
        eager = model(ids[None]).logits[0]
        monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", older)
        model.config._attn_implementation = "sdpa"
        assert float((model(ids[None]).logits[0] - eager).abs().max()) > 1e-2
    adapted = adapt(model)
    assert any("leaves the cap out" in note for note in adapted.notes)
    found = lengthwise.wrap(model).score(ids.tolist())
    right = eager[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    assert torch.allclose(torch.as_tensor(found), right, atol=1e-4)
