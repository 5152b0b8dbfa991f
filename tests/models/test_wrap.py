"""What `wrap` is given in practice: wrappers, adapters, offload, autocast. It runs, or says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

import lengthwise
from lengthwise.errors import LengthwiseError, UnsupportedModel
from lengthwise.testing.tiny import BASE, tiny_model, tokens

TEXT = [min(token, 119) for token in tokens(30)]


@torch.no_grad()
def stock(model: Any, text: list[int] = TEXT) -> torch.Tensor:
    """Log-probabilities `[n - 1]` by what the user holds."""
    logits = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, :-1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(text)[1:, None])[:, 0]


def check_equal(given: Any, wrapped: lengthwise.Model | None = None) -> None:
    """One pass, chunks and cached steps give what the model as given gives."""
    wrapped = lengthwise.wrap(given) if wrapped is None else wrapped
    theirs = stock(given)
    for ours in (wrapped.score(TEXT), wrapped.score(TEXT, chunk=7)):
        assert float((ours - theirs).abs().max()) <= 3e-5
    assert float((wrapped.score(TEXT, prompt=20) - theirs[19:]).abs().max()) <= 3e-5


def refusal(given: Any) -> str:
    with pytest.raises(UnsupportedModel) as caught:
        lengthwise.wrap(given)
    text = str(caught.value)
    assert "hook" not in text and "\n" not in text and ";" in text
    return text


# Wrappers.


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def compiled_in_place(model: nn.Module) -> Any:
    model.compile(backend="eager")
    return model


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("wrapper", [compiled, compiled_in_place, nn.DataParallel])
def test_wrappers_that_hand_on_are_taken_off(
    wrapper: Callable[[nn.Module], Any], family: str
) -> None:
    model = tiny_model(family)
    given = wrapper(model)
    wrapped = lengthwise.wrap(given)
    assert wrapped.adapted.model is model
    check_equal(given, wrapped)


def test_a_model_compiled_after_wrap_runs_as_written() -> None:
    model = tiny_model("qwen3")
    wrapped = lengthwise.wrap(model)
    traced: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        traced.append(1)
        return graph.forward

    model.compile(backend=backend)
    ours = wrapped.score(TEXT)
    assert not traced, "a graph made under the attention hook has our attention in it"
    assert torch.allclose(ours, stock(model), atol=3e-5) and traced


@pytest.mark.parametrize("given", [None, "gpt2", nn.Linear(2, 2), 3])
def test_what_is_no_model_is_told_what_is_wanted(given: Any) -> None:
    with pytest.raises(LengthwiseError) as caught:
        lengthwise.wrap(given)
    text = str(caught.value)
    assert "\n" not in text and "hook" not in text
    name = "None" if given is None else type(given).__name__
    assert name in text and "AutoModelForCausalLM.from_pretrained" in text


class FullyShardedDataParallel(nn.Module):
    """Known by its name: the real one wants processes."""


def test_weights_in_shards_are_refused_by_name() -> None:
    assert "shards" in refusal(FullyShardedDataParallel())


def test_models_without_a_head_for_tokens_are_refused_by_name() -> None:
    model: Any = tiny_model("llama")
    assert "LlamaModel has no head" in refusal(model.model)
    other = AutoModelForSequenceClassification.from_config(model.config)
    assert "LlamaForSequenceClassification has no head" in refusal(other)


def test_models_that_look_both_ways_are_refused_for_that() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 96, "vocab_size": 128, "initializer_range": 0.1}  # fmt: skip
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **sizes)).eval()
    assert "earlier tokens read later ones" in refusal(model)
    assert "earlier tokens read later ones" in refusal(image_text("paligemma"))


# Weights elsewhere.


def spread(model: Any, folder: str) -> Any:
    here = "model.embed_tokens", "model.norm", "model.rotary_emb", "model.layers.0", "lm_head"
    places = {**dict.fromkeys(here, "cpu"), "model.layers.1": "disk"}
    return accelerate.dispatch_model(model, places, main_device="cpu", offload_dir=folder)


OFFLOADS = {
    "cpu": lambda m, _: accelerate.cpu_offload(m, execution_device="cpu"),
    "cpu with buffers": lambda m, _: accelerate.cpu_offload(
        m, execution_device="cpu", offload_buffers=True
    ),
    "disk": lambda m, folder: accelerate.disk_offload(m, folder, execution_device="cpu"),
    "some layers": spread,
}  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_oss"])
@pytest.mark.parametrize("offload", OFFLOADS)
def test_offloaded_weights_are_brought_by_accelerate(
    offload: str, family: str, tmp_path: Path
) -> None:
    model = tiny_model(family)
    theirs = stock(model)
    given = OFFLOADS[offload](model, str(tmp_path))
    wrapped = lengthwise.wrap(given)
    check_equal(given, wrapped)
    assert torch.allclose(stock(given), theirs, atol=1e-6), "it is as it was"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_offloaded_after_wrap_run_too(dtype: torch.dtype) -> None:
    model = tiny_model("llama").to(dtype)  # type: ignore[arg-type]
    wrapped = lengthwise.wrap(model)
    before = wrapped.score(TEXT)
    accelerate.cpu_offload(model, execution_device="cpu")
    assert torch.allclose(wrapped.score(TEXT), before, atol=0.2)


def test_a_model_without_values_is_refused_by_name() -> None:
    assert "meta device" in refusal(tiny_model("llama").to("meta"))  # type: ignore[arg-type]


# Adapters.


def adapted(kind: str, **options: Any) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    options.setdefault("task_type", "CAUSAL_LM")
    return peft.get_peft_model(tiny_model("llama"), getattr(peft, kind)(**options)).eval()


LORA = {"init_lora_weights": False, "lora_alpha": 64, "target_modules": ["q_proj", "down_proj"]}
IN_LAYERS = {
    "LoRA": ("LoraConfig", LORA),
    "DoRA": ("LoraConfig", {**LORA, "use_dora": True}),
    "IA3": ("IA3Config", {"init_ia3_weights": False}),
    "adaption prompt": ("AdaptionPromptConfig", {"adapter_len": 5, "adapter_layers": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_LAYERS)
def test_adapters_that_live_in_layers_run(name: str) -> None:
    kind, options = IN_LAYERS[name]
    given = adapted(kind, **options)
    wrapped = lengthwise.wrap(given)
    check_equal(given, wrapped)
    check_equal(given.get_base_model())
    with given.disable_adapter():
        check_equal(given, wrapped)


def test_an_adapter_switched_merged_or_unloaded_after_wrap_is_the_one_used() -> None:
    peft = pytest.importorskip("peft")
    given = adapted("LoraConfig", **LORA)
    given.add_adapter("other", peft.LoraConfig(**{**LORA, "target_modules": ["up_proj"]}))
    given.eval()
    wrapped = lengthwise.wrap(given)
    first = wrapped.score(TEXT)
    given.set_adapter("other")
    check_equal(given, wrapped)
    assert float((wrapped.score(TEXT) - first).abs().max()) > 0.1
    given.merge_adapter()
    check_equal(given, wrapped)
    check_equal(given.unload(), wrapped)


def test_adapters_of_several_kinds_run() -> None:
    peft = pytest.importorskip("peft")
    check_equal(peft.PeftMixedModel(tiny_model("llama"), peft.LoraConfig(**LORA)).eval())


@pytest.mark.parametrize(
    "kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"]
)
def test_virtual_tokens_are_refused_by_name(kind: str) -> None:
    given = adapted(kind, num_virtual_tokens=5)
    text = refusal(given)
    assert "5 virtual tokens" in text and "get_base_model" in text
    check_equal(given.get_base_model())


class PromptTuned(nn.Module):
    """What peft's prompt learning looks like from outside."""

    class Config:
        peft_type, num_virtual_tokens, is_prompt_learning = "PROMPT_TUNING", 7, True

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.base_model = model
        self.active_peft_config = self.Config()
        self.peft_config = {"default": self.active_peft_config}

    def get_base_model(self) -> nn.Module:
        return self.base_model


def test_virtual_tokens_are_refused_without_peft_installed() -> None:
    assert "PROMPT_TUNING puts 7 virtual tokens" in refusal(PromptTuned(tiny_model("llama")))


class Tuner(nn.Module):
    """A wrapper in peft's shape that does something of its own to what goes through."""

    def __init__(self, model: PreTrainedModel, factor: float) -> None:
        super().__init__()
        self.base_model = nn.ModuleDict({"model": model})
        self.peft_config: dict[str, Any] = {}
        self.factor = factor

    def get_base_model(self) -> Any:
        return self.base_model["model"]

    def forward(self, **inputs: Any) -> Any:
        out = self.get_base_model()(**inputs)
        out.logits = out.logits * self.factor
        return out


def test_a_tuner_that_does_more_than_its_layers_is_refused() -> None:
    check_equal(Tuner(tiny_model("llama"), 1.0))
    assert "does more than its layers do" in refusal(Tuner(tiny_model("llama"), 1.5))


def test_activated_lora_is_refused_by_name() -> None:
    assert "aLoRA" in refusal(adapted("LoraConfig", **LORA, alora_invocation_tokens=[5, 6]))


# Modes of a model.


@pytest.mark.parametrize(
    ("family", "changes", "what"),
    [
        ("llama", {"attention_dropout": 0.25}, "attention_dropout=0.25"),
        ("qwen3", {"attention_dropout": 0.25}, "attention_dropout=0.25"),
        ("gpt2", {"embd_pdrop": 0.125}, "dropout=0.125"),
        ("opt", {"dropout": 0.5}, "dropout=0.5"),
        ("opt", {"dropout": 0.0, "layerdrop": 0.5}, "layerdrop=0.5"),
        ("phimoe", {"router_jitter_noise": 0.01}, "router_jitter_noise=0.01"),
    ],
)
def test_training_mode_with_dropout_is_refused_by_name(
    family: str, changes: dict[str, Any], what: str
) -> None:
    model = tiny_model(family, **changes).train()
    text = refusal(model)
    assert what in text and "model.eval()" in text
    check_equal(model.eval())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_mode_without_dropout_runs(checkpointing: bool) -> None:
    model = tiny_model("qwen3").train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    check_equal(model)
    assert model.training


# Flex attention compiles its kernels first.
FLEX = pytest.param("flex_attention", marks=pytest.mark.slow)


@pytest.mark.parametrize("attention", ["eager", "sdpa", FLEX])
def test_the_attention_a_model_was_loaded_with_is_left_alone(attention: str) -> None:
    model = tiny_model("qwen3")
    model.set_attn_implementation(attention)
    check_equal(model)
    assert model.config._attn_implementation == attention


RECIPES = ["full", "snapkv(budget=16, window=4)", "lookup", "kivi(bits=4)"]


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_autocast_changes_nothing(family: str, recipe: str) -> None:
    model = tiny_model(family)
    wrapped = lengthwise.wrap(model)
    scores = wrapped.score(TEXT, recipe, prompt=24)
    found = wrapped.generate(TEXT, recipe, max_new_tokens=8, stop_ids=[]).token_ids
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float((stock(model) - lengthwise.wrap(model).score(TEXT)).abs().max()) > 1e-3
        assert torch.equal(wrapped.score(TEXT, recipe, prompt=24), scores)
        assert torch.equal(lengthwise.wrap(model).score(TEXT, recipe, prompt=24), scores)
        assert wrapped.generate(TEXT, recipe, max_new_tokens=8, stop_ids=[]).token_ids == found


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_forward_with_autocast_of_its_own_is_refused_by_name(family: str) -> None:
    model: Any = tiny_model(family)
    wrapped = lengthwise.wrap(model)
    model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)
    assert "turns autocast on" in refusal(model)
    with pytest.raises(LengthwiseError, match="turns autocast on"):
        wrapped.score(TEXT)


def test_int8_activations_over_a_whole_forward_are_refused_by_name() -> None:
    model = torch.ao.quantization.quantize_dynamic(tiny_model("llama"), {nn.Linear})
    text = refusal(model)
    assert "quantize_dynamic" in text and "chunks" in text


# Image-text models, on text.

ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
VISION = {"depth": 1, "hidden_size": 32, "num_heads": 2, "embed_dim": 32, "out_hidden_size": 64,
          "intermediate_size": 32, "patch_size": 4, "spatial_merge_size": 1, "mlp_ratio": 1,
          "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
          "deepstack_visual_indexes": [0], "fullatt_block_indexes": [0],
          "num_position_embeddings": 16}  # fmt: skip


def image_text(family: str) -> Any:
    default = AutoConfig.for_model(family)
    special = {name: 127 for name in vars(default) if name.endswith("_token_id")}
    config = type(default)(
        text_config={**BASE, "rope_parameters": ROPE, "num_experts": 4, "num_experts_per_tok": 2,
                     "moe_intermediate_size": 32,
                     "model_type": default.get_text_config().model_type},
        vision_config={**VISION, "model_type": default.vision_config.model_type}, **special,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config).float().eval()


ROWS_OF_POSITIONS = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm46v"]


@pytest.mark.parametrize("family", [*ROWS_OF_POSITIONS, "llava", "mistral3"])
def test_image_text_models_run_on_text(family: str) -> None:
    model = image_text(family)
    check_equal(model)
    wrapped = lengthwise.wrap(model)
    ours = wrapped.generate(TEXT, max_new_tokens=8, stop_ids=[]).token_ids
    theirs = model.generate(
        torch.tensor([TEXT]), max_new_tokens=8, do_sample=False, eos_token_id=None
    )
    assert ours == theirs[0, len(TEXT) :].tolist()


def test_the_device_of_an_offloaded_model_is_where_it_computes() -> None:
    model = accelerate.cpu_offload(tiny_model("llama"), execution_device="cpu")
    assert model.device.type == "meta"
    assert lengthwise.wrap(model).adapted.device == torch.device("cpu")
