"""Models whose linear layers hold their weights in 8 or 4 bits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import lengthwise
from lengthwise._utils.timings import Timed
from lengthwise.errors import LengthwiseError, ModelError
from lengthwise.models import quantised
from lengthwise.models.fits import weight_bytes
from lengthwise.models.low_bit import FORMATS, LowBit, low_bit
from lengthwise.models.quantised import (
    LowBitLinear,
    format_of,
    low_bit_layers,
    numbers,
    quantise,
    timed_layers,
)
from lengthwise.models.quantised_loading import LowBitConfig
from lengthwise.testing.tiny import tiny_model, tokens
from tests.evaluation.drafting_cases import saved_model

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 16, "vocab_size": 256,
}  # fmt: skip


def model_of(family: str = "llama", weights: str | None = None, **changes: Any) -> Any:
    model = tiny_model(family, **{**SIZES, **changes})
    if weights is not None:
        quantise(model, weights)
    return model


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize(
    ("family", "changes"), [("llama", {}), ("qwen2", {}), ("qwen3", {}), ("gemma3_text", {}),
                            ("mistral", {"tie_word_embeddings": True})],
)  # fmt: skip
def test_its_layers_are_wide_ones_of_the_numbers_they_hold(
    family: str, changes: dict[str, Any], weights: str
) -> None:
    plain = model_of(family, **changes)
    small = copy.deepcopy(plain)
    quantise(small, weights)
    assert format_of(small) == weights and format_of(plain) is None
    assert numbers(small) == numbers(plain) + (
        plain.lm_head.weight.numel() if plain.config.tie_word_embeddings else 0
    )
    ids = torch.tensor([tokens(40)]) % 256
    # A twin of plain layers with the same numbers.
    for name, module in list(small.named_modules()):
        if isinstance(module, LowBitLinear):
            wide = nn.Linear(module.in_features, module.out_features, module.bias is not None)
            wide.weight.data = module.weight.clone()
            if module.bias is not None:
                wide.bias.data = module.bias.clone()
            plain.set_submodule(name, wide)
    with torch.no_grad():
        for count in (3, 40):
            right, found = plain(ids[:, :count]).logits, small(ids[:, :count]).logits
            assert torch.allclose(found, right, atol=1e-4)


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("recipe", ["full", "streaming(window=16, sinks=2) + lookup"])
def test_it_says_what_stock_transformers_says(family: str, recipe: str, weights: str) -> None:
    model = model_of(family, weights)
    wrapped = lengthwise.wrap(model)
    assert (wrapped.adapted.fast is not None) == (family != "qwen3")
    prompt = [each % 256 for each in tokens(12)]
    found = wrapped.generate(prompt, recipe=recipe, max_new_tokens=8)
    if recipe == "full":
        right = model.generate(
            torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=None,
            pad_token_id=0,
        )[0, 12:]  # fmt: skip
        assert found.token_ids == right.tolist()
    assert len(found.token_ids) == 8
    assert f"{weights} weights" in repr(wrapped)
    wrapped.adapted.release()
    assert all(t.data.is_contiguous() for t in low_bit_layers(model))


def test_layers_of_one_product_share_memory_and_get_their_own_back() -> None:
    model = model_of(weights="int8")
    before = {name: layer.weight for name, layer in model.named_modules()
              if isinstance(layer, LowBitLinear)}  # fmt: skip
    wrapped = lengthwise.wrap(model)
    wrapped.score(tokens(5, 3))
    attention = model.model.layers[0].self_attn
    storages = {each.data.untyped_storage().data_ptr() for each in
                (attention.q_proj, attention.k_proj, attention.v_proj)}  # fmt: skip
    assert len(storages) == 1
    wrapped.adapted.release()
    for name, layer in model.named_modules():
        if isinstance(layer, LowBitLinear):
            assert torch.equal(layer.weight, before[name])
            assert layer.data.untyped_storage().nbytes() == layer.data.nbytes


def test_the_head_is_held_in_8_bits_and_small_layers_as_they_are() -> None:
    model = model_of(weights="int4")
    assert model.lm_head.format == "int8"
    assert model.model.layers[0].mlp.up_proj.format == "int4"
    router = nn.Sequential(nn.Linear(64, 8), nn.Linear(64, 64))
    assert [quantised.is_linear(each) for each in router] == [False, True]


def test_what_is_not_as_asked_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())
    model_of(weights="int4")
    assert capsys.readouterr().err == ""
    for _ in range(2):
        model_of(weights="int4", intermediate_size=80)
    said = capsys.readouterr().err
    assert said.count("2 of 15 linear layers are held in int8") == 1 and said.count("note:") == 1
    monkeypatch.setattr(LowBit, "serves", False)
    model = model_of(weights="int8")
    said = capsys.readouterr().err
    assert "no operator for int8 weights in float32 on cpu: they are widened" in said
    assert all(layer.rows == 0 for layer in low_bit_layers(model))


def test_moving_int4_to_another_device_is_refused_and_changes_nothing() -> None:
    model = model_of(weights="int4")
    ids = torch.tensor([tokens(5)]) % 256
    before = model(ids).logits
    with pytest.raises(LengthwiseError, match="packed for cpu.*load the model with device='meta'"):
        model.model.layers[0].mlp.up_proj.to("meta")
    assert torch.equal(model(ids).logits, before)
    assert torch.allclose(model.to(torch.bfloat16)(ids).logits.float(), before, atol=0.1)


@pytest.mark.parametrize(
    ("weights", "said"), [("int5", "held as int8 or int4"), ("nf4", "held as int8 or int4"),
                          (4, "weights=4")],
)  # fmt: skip
def test_other_formats_are_refused(weights: Any, said: str) -> None:
    with pytest.raises(LengthwiseError, match=said):
        lengthwise.load(weights=weights)


def test_what_has_nothing_to_hold_so_is_refused() -> None:
    with pytest.raises(ModelError, match="no linear layers"):
        quantise(
            tiny_model("llama", hidden_size=32, intermediate_size=32, vocab_size=48, head_dim=8),
            "int4",
        )
    with pytest.raises(ModelError, match=r"float64.*float32, float16, bfloat16"):
        quantise(model_of().double(), "int8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(saved_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.mark.parametrize("weights", FORMATS)
def test_a_checkpoint_is_made_small_as_it_is_read(
    tmp_path: Path, folder: Path, weights: str
) -> None:
    model_of("qwen2").save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            (tmp_path / name).write_bytes((folder / name).read_bytes())
    model = lengthwise.load(tmp_path, "float32", "cpu", weights=weights)
    right = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    quantise(right, weights)
    ids = torch.tensor([tokens(9)]) % 256
    assert torch.equal(model.adapted.model(ids).logits, right(ids).logits)
    assert model.provenance.weights == weights
    held = sum(t.nbytes for t in (*right.parameters(), *right.buffers()) if t.dim() > 1)
    told = weight_bytes(str(tmp_path), True, torch.float32, weights)
    # The estimate counts scales and zeros of 16 bits; these are of 32.
    assert told is not None and 0.75 * held < told < 1.05 * held


def test_a_weight_is_small_before_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No layer is wide when all has been read, but for the head, which waits."""
    model_of().save_pretrained(tmp_path)
    seen: list[int] = []

    def watched(model: Any, weights: str, device: Any = None) -> None:
        seen.extend(m.weight.numel() for m in model.modules() if type(m) is nn.Linear)
        quantise(model, weights, device)

    monkeypatch.setattr("lengthwise.models.quantised_loading.quantise", watched)
    AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, quantization_config=LowBitConfig("int4")
    )
    assert seen == [256 * 64]


def test_a_checkpoint_that_is_quantised_already_is_refused(tmp_path: Path) -> None:
    model = model_of()
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    model.config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"quantised already \(gptq\); load it without weights="):
        lengthwise.load(tmp_path, weights="int4")


ROWS = quantised.ROWS


@pytest.mark.parametrize(
    ("direct", "widened", "rows"),
    [
        ((1, 2, 3, 4), (9, 9, 9, 9), None),
        ((9, 9, 9, 9), (1, 2, 3, 4), 0),
        ((1, 4, 32, 256), (8, 8, 8, 8), 16 + round(112 * 4 / 28)),
        ((1, 1, 1, 10), (2, 2, 2, 1), 128 + round(896 * 1 / 10)),
    ],
)
def test_from_how_many_rows_a_weight_is_widened(
    direct: tuple[float, ...], widened: tuple[float, ...], rows: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def told(layer: LowBitLinear, timings: object) -> list[Timed]:
        each: list[Mapping[str, float]] = [
            {"direct": d, "widened": w} for d, w in zip(direct, widened, strict=True)
        ]
        return [Timed("product", count, "64x64", seconds, min(seconds, key=lambda n: seconds[n]),
                      1.0, "GB/s") for count, seconds in zip(ROWS, each, strict=True)]  # fmt: skip

    monkeypatch.setattr(quantised, "_timed", told)
    monkeypatch.setattr(quantised, "timing", lambda: True)
    layer = LowBitLinear(low_bit(torch.randn(64, 64), "int8"), None)
    quantised.time_rows(layer)
    assert layer.rows == rows
    assert [each.rows for each in timed_layers(layer)] == list(ROWS)
    x = torch.randn(20, 64)
    assert torch.allclose(layer(x), x @ layer.weight.T, atol=1e-4)
