"""Loading by name: every source of a model, what is refused and in which words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import lengthwise
from lengthwise.errors import LengthwiseError, ModelError
from lengthwise.models import load
from lengthwise.models.gguf_files import load_gguf_model
from lengthwise.models.load import load_pretrained
from tests.models.gguf_cases import ROPE_BASE, small_llama, write_gguf


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local folder with a random Llama of two layers and a tokenizer of eight words."""
    folder = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(WordLevel({word: i for i, word in enumerate("?abcdefg")}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(folder)
    return folder


@pytest.fixture
def damaged_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return tmp_path


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert isinstance(error.value, LengthwiseError)
    return text


def test_local_folder_gives_the_model_saved_there(tiny_folder: Path) -> None:
    model, tokenizer, provenance = load_pretrained(str(tiny_folder), dtype="fp32", device="cpu")
    stored = LlamaForCausalLM.from_pretrained(tiny_folder)
    ids = torch.tensor([tokenizer("a b c")["input_ids"]])
    torch.testing.assert_close(model(ids).logits, stored(ids).logits, rtol=0, atol=0)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert provenance == load.Provenance(
        str(tiny_folder), torch.float32, torch.device("cpu"), "local folder", 64
    )


@pytest.mark.parametrize(
    ("asked", "dtype"),
    [
        ("bf16", torch.bfloat16),
        ("BFloat16", torch.bfloat16),
        ("torch.float16", torch.float16),
        ("fp32", torch.float32),
        (torch.float16, torch.float16),
    ],
)
def test_dtype_is_the_one_asked_for(tiny_folder: Path, asked: object, dtype: torch.dtype) -> None:
    model, _, provenance = load_pretrained(str(tiny_folder), dtype=asked, device="cpu")  # type: ignore[arg-type]
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert provenance.dtype == dtype


@pytest.mark.parametrize("asked", ["int8", "", torch.int8, torch.float64])
def test_unknown_dtype_is_refused_with_the_list(asked: str | torch.dtype) -> None:
    with pytest.raises(ModelError, match="bf16, bfloat16, fp16") as error:
        load.parse_dtype(asked)
    assert repr(str(asked)) in one_line(error)


def test_fast_dtype_follows_what_the_cpu_multiplies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(load, "_cpu_has_bf16", lambda native=native: native)
        assert load.fast_dtype(torch.device("cpu")) is dtype


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_absent_device_is_refused(device: str) -> None:
    with pytest.raises(ModelError, match=device) as error:
        load.find_device(device)
    one_line(error)


@pytest.mark.parametrize("name", ["./no/such", "/no/such/folder", "../x", "a/b/c", "x.gguf", ""])
def test_missing_path_is_named_and_not_looked_up_on_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Not where somebody else may have put an x beside us.
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(load, "_require_on_hub", lambda name: pytest.fail("asked the hub"))
    if not name:
        name = "no such folder"
    with pytest.raises(ModelError, match="no such folder or file") as error:
        load_pretrained(name)
    assert name in one_line(error)


def test_unreachable_hub_name_is_named_with_the_cause() -> None:
    with pytest.raises(ModelError, match="'someone/no-such-model'.*the hub") as error:
        load_pretrained("someone/no-such-model")
    one_line(error)


def test_file_that_is_no_model_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="name the folder") as error:
        load_pretrained(str(tiny_folder / "model.safetensors"))
    one_line(error)


def test_damaged_safetensors_is_named(damaged_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.safetensors.*damaged") as error:
        load_pretrained(str(damaged_folder))
    one_line(error)


def test_weights_absent_from_the_files_are_not_made_up(tiny_folder: Path, tmp_path: Path) -> None:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="9 weights .* none of its files") as error:
        load_pretrained(str(tmp_path))
    one_line(error)


def test_folder_without_a_tokenizer_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    with pytest.raises(ModelError, match="tokenizer") as error:
        load_pretrained(str(tmp_path))
    one_line(error)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded") as error:
        load_pretrained(str(tmp_path))
    assert str(tmp_path) in one_line(error)


@pytest.mark.parametrize("kept", [2_000_000, 90_000_000])
def test_truncated_gguf_is_named(kept: int, gguf_path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "cut.gguf"
    with gguf_path.open("rb") as file:
        damaged.write_bytes(file.read(kept))
    with pytest.raises(ModelError, match=r"cut\.gguf.*damaged") as error:
        load_pretrained(str(damaged))
    one_line(error)


def test_gguf_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("once upon a time")
    with pytest.raises(ModelError, match=r"text\.gguf.*not a GGUF file") as error:
        load_pretrained(str(tmp_path / "text.gguf"))
    one_line(error)


LLAMA3 = {
    **ROPE_BASE, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip


def divided_by(rope: dict[str, object]) -> list[float]:
    """What a rule divides each frequency by."""
    plain = small_llama({**ROPE_BASE, "rope_type": "default"}).model.rotary_emb.inv_freq
    return (plain / small_llama(rope, 65536).model.rotary_emb.inv_freq).tolist()


SCALED: dict[str, tuple[dict[str, object], dict[str, object], dict[str, list[float]]]] = {
    "plain": ({}, {**ROPE_BASE, "rope_type": "default"}, {}),
    "said to be none": ({"scaling.type": "none"}, {**ROPE_BASE, "rope_type": "default"}, {}),
    "linear": (
        {"scaling.type": "linear", "scaling.factor": 4.0},
        {**ROPE_BASE, "rope_type": "linear", "factor": 4.0}, {},
    ),
    "linear, as older files say it": (
        {"scale_linear": 4.0}, {**ROPE_BASE, "rope_type": "linear", "factor": 4.0}, {},
    ),
    "yarn": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 16},
        {**ROPE_BASE, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {},
    ),
    "yarn with an attention factor": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 16,
         "scaling.attn_factor": 0.8, "scaling.yarn_beta_fast": 8.0},
        {**ROPE_BASE, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
         "beta_fast": 8.0, "attention_factor": 0.8 * (0.1 * math.log(4.0) + 1.0)},
        {},
    ),
    "rope_freqs of llama 3": ({}, LLAMA3, {"rope_freqs.weight": divided_by(LLAMA3)}),
    "rope_freqs of their own": (
        {}, {**ROPE_BASE, "rope_type": "longrope", "short_factor": [1.0 + i for i in range(16)],
             "long_factor": [1.0 + i for i in range(16)], "attention_factor": 1.0, "factor": 1.0,
             "original_max_position_embeddings": 64},
        {"rope_freqs.weight": [1.0 + i for i in range(16)]},
    ),
    "factors by length": (
        {"scaling.original_context_length": 16, "scaling.attn_factor": 1.25},
        {**ROPE_BASE, "rope_type": "longrope", "short_factor": [1.0] * 16,
         "long_factor": [1.0 + i for i in range(16)], "attention_factor": 1.25, "factor": 4.0,
         "original_max_position_embeddings": 16},
        {"rope_factors_short.weight": [1.0] * 16,
         "rope_factors_long.weight": [1.0 + i for i in range(16)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SCALED)
def test_rotary_scaling_of_a_gguf_file_is_that_of_the_model_it_was_made_of(
    case: str, tmp_path: Path
) -> None:
    said, rope, tensors = SCALED[case]
    stored = small_llama(rope)
    write_gguf(tmp_path / "small.gguf", stored, said, tensors)
    model = load_gguf_model(tmp_path / "small.gguf", torch.float32)
    ids = torch.randint(3, 32, (1, 60))
    with torch.no_grad():
        expected = stored(ids).logits
        torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=1e-4)
    found = lengthwise.wrap(model).score(ids[0])
    logs = expected[0].log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
    torch.testing.assert_close(found, logs, rtol=0, atol=1e-4)
    model.save_pretrained(tmp_path / "saved")
    again = LlamaForCausalLM.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, expected, rtol=0, atol=1e-4)


def test_frequencies_that_no_length_changes_run_every_recipe(tmp_path: Path) -> None:
    _, rope, tensors = SCALED["rope_freqs of their own"]
    write_gguf(tmp_path / "small.gguf", small_llama(rope), {}, tensors)
    model = lengthwise.wrap(load_gguf_model(tmp_path / "small.gguf", torch.float32))
    assert model.adapted.switch is None
    model.plan("yarn(factor=2)")


@pytest.mark.parametrize(
    ("said", "tensors", "reason"),
    [
        ({"scaling.type": "su"}, {}, "type 'su'"),
        ({"scaling.type": "longrope", "scaling.factor": 4.0}, {}, "type 'longrope'"),
        ({"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.yarn_ext_factor": 0.5}, {},
         "yarn_ext_factor = 0.5"),
        ({"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.yarn_log_multiplier": 0.07}, {},
         "yarn_log_multiplier"),
        ({"scaling.type": "linear", "scaling.factor": 4.0, "scaling.turns": 2}, {},
         "rope.scaling.turns = 2"),
        ({}, {"rope_freqs.weight": [1.0, 2.0]}, "2 numbers for 16 pairs"),
        ({}, {"rope_factors_long.weight": [1.0] * 16}, "is absent"),
        ({"scaling.type": "yarn", "scaling.factor": 4.0}, {"rope_freqs.weight": [2.0] * 16},
         "together with scaling"),
    ],
)  # fmt: skip
def test_rotary_scaling_of_a_gguf_file_that_cannot_be_read_is_refused_by_name(
    said: dict[str, object], tensors: dict[str, list[float]], reason: str, tmp_path: Path
) -> None:
    model = small_llama({**ROPE_BASE, "rope_type": "default"})
    write_gguf(tmp_path / "odd.gguf", model, said, tensors)
    with pytest.raises(ModelError, match=reason) as error:
        load_gguf_model(tmp_path / "odd.gguf", torch.float32)
    assert "odd.gguf: its rotary scaling cannot be read" in one_line(error)


def test_trained_length_is_what_the_model_declares() -> None:
    assert load.trained_length(LlamaConfig(max_position_embeddings=4096)) == 4096
