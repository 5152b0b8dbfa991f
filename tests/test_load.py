"""Loading by name: every source of a model, what is refused and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lengthwise.errors import LengthwiseError, ModelError
from lengthwise.models import load
from lengthwise.models.load import load_pretrained


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
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_trained_length_is_what_the_model_declares() -> None:
    assert load.trained_length(LlamaConfig(max_position_embeddings=4096)) == 4096
