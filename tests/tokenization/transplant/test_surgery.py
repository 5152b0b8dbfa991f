"""A model with another tokenizer: what is copied is exact, what is made is what was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.token_bytes import byte_vocabulary
from lengthwise.tokenization.transplant.folder import save
from lengthwise.tokenization.transplant.mean import Mean
from lengthwise.tokenization.transplant.random import Random
from lengthwise.tokenization.transplant.surgery import transplant
from tests.tokenization.transplant.tiny_pairs import OTHER, TEXT, byte_level, model_of, pieces


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "gemma"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("padding", [0, 54])
@pytest.mark.parametrize("make", [byte_level, pieces])
def test_the_same_tokenizer_leaves_logits_as_they_were(
    family: str, tied: bool, padding: int, make: Any
) -> None:
    own = make()
    model = model_of(own, family, padding, tie_word_embeddings=tied)
    ids = own.encode(TEXT)[:40]
    before = logits(model, ids)
    found = transplant(model, own, own)
    assert (found.made, found.copied, found.gone) == (0, len(own), [])
    assert found.tokenizer.encode(TEXT) == own.encode(TEXT)
    assert found.rows % 128 == 0 and model.config.vocab_size == found.rows
    after = logits(model, ids)
    assert torch.equal(after[:, : len(own)], before[:, : len(own)])


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_tokens_with_the_same_bytes_are_copied_in_both_matrices(tied: bool) -> None:
    own, new = pieces(), byte_level(OTHER)
    model = model_of(own, tie_word_embeddings=tied)
    inner = model.get_input_embeddings().weight.detach().clone()
    outer = model.get_output_embeddings().weight.detach().clone()
    found = transplant(model, own, new)
    words = byte_vocabulary(found.tokenizer).spelled
    old = {data: n for n, data in enumerate(byte_vocabulary(own).spelled) if data}
    same = [(n, old[data]) for n, data in enumerate(words) if data in old]
    assert len(same) > 256
    for token, other in same:
        data = words[token]
        candidates = [n for n, each in enumerate(byte_vocabulary(own).spelled) if each == data]
        assert other in candidates
        rows = model.get_input_embeddings().weight[token]
        assert any(torch.equal(rows, inner[n]) for n in candidates)
        rows = model.get_output_embeddings().weight[token]
        assert any(torch.equal(rows, outer[n]) for n in candidates)


def test_half_characters_are_matched_and_spelled_by_their_bytes() -> None:
    own, new = pieces(), byte_level(OTHER)
    model = model_of(own)
    inner = model.get_input_embeddings().weight.detach().clone()
    found = transplant(model, own, new)
    words = byte_vocabulary(found.tokenizer).spelled
    lone = words.index(b"\xc5")
    assert torch.equal(model.get_input_embeddings().weight[lone], inner[own.get_vocab()["<0xC5>"]])
    # "ş" is one token of the new tokenizer, and two bytes of the old one.
    both = words.index("ş".encode())
    mean = inner[[own.get_vocab()["<0xC5>"], own.get_vocab()["<0x9F>"]]].mean(0)
    assert torch.allclose(model.get_input_embeddings().weight[both], mean)
    assert found.unknown == 0


def test_padding_is_never_likelier_than_a_token_is_on_average() -> None:
    own = byte_level()
    model = model_of(own)
    found = transplant(model, own, own)
    probs = logits(model, own.encode(TEXT)[:30]).softmax(-1)
    assert found.rows > found.tokens
    assert float(probs[:, found.tokens :].max()) <= 1 / found.tokens


def test_special_tokens_and_the_chat_template_are_the_models() -> None:
    own, new = byte_level(), byte_level(OTHER, 300, ("<|eot|>",), template=False)
    model = model_of(own)
    model.generation_config.eos_token_id = [own.eos_token_id, own.get_vocab()["<turn>"]]
    inner = model.get_input_embeddings().weight.detach().clone()
    found = transplant(model, own, new)
    made, talk = found.tokenizer, [{"role": "user", "content": "the cat"}]
    ids = made.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
    assert made.decode(ids) == own.decode(
        own.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
    )
    for token in ("<turn>", "<end>", "<pad>"):
        number = made.get_vocab()[token]
        assert number in ids or token == "<pad>"
        assert torch.equal(
            model.get_input_embeddings().weight[number], inner[own.get_vocab()[token]]
        )
    assert model.config.eos_token_id == made.eos_token_id == made.get_vocab()["<end>"]
    assert model.config.pad_token_id == made.pad_token_id
    assert model.get_input_embeddings().padding_idx == made.pad_token_id
    assert model.generation_config.eos_token_id == [made.eos_token_id, made.get_vocab()["<turn>"]]


def test_special_tokens_may_be_the_new_ones() -> None:
    own, new = byte_level(), byte_level(OTHER, 300, ("<|eot|>",), template=False)
    model = model_of(own)
    inner = model.get_input_embeddings().weight.detach().clone()
    found = transplant(model, own, new, specials="new")
    assert len(found.tokenizer) == len(new)
    number = found.tokenizer.get_vocab()["<|eot|>"]
    assert found.tokenizer.eos_token == "<|eot|>"
    assert torch.equal(model.get_input_embeddings().weight[number], inner[own.eos_token_id])
    assert model.config.eos_token_id == number
    assert model.config.pad_token_id is None and "pad_token_id" in found.gone


@pytest.mark.parametrize("opening", [True, False])
def test_texts_begin_as_the_model_is_used_to(opening: bool) -> None:
    own, new = pieces(opening=opening), byte_level(OTHER)
    found = transplant(model_of(own), own, new)
    begin = found.tokenizer.get_vocab()["<s>"]
    assert (found.tokenizer.encode("the")[0] == begin) == opening
    back = transplant(model_of(new), new, pieces(opening=not opening))
    assert back.tokenizer.encode("the", add_special_tokens=False) == back.tokenizer.encode("the")


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_is_what_transformers_loads(tmp_path: Path, tied: bool) -> None:
    own, new = byte_level(), pieces(OTHER)
    model = model_of(own, tie_word_embeddings=tied).to(torch.bfloat16)
    found = transplant(model, own, new, Random())
    save(tmp_path / "made", model, found.tokenizer, {"by": "random"})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "made", dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    here, there = model.state_dict(), loaded.state_dict()
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert tokenizer.encode(OTHER) == found.tokenizer.encode(OTHER)
    assert tokenizer.chat_template == own.chat_template
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id
    assert [each.name for each in tmp_path.iterdir()] == ["made"]


def test_random_rows_have_the_mean_and_deviation_of_the_old_ones() -> None:
    own, new = byte_level(), byte_level(OTHER, 420)
    model = model_of(own)
    before = model.get_input_embeddings().weight.detach().clone()
    transplant(model, own, new, Random())
    old = {data for data in byte_vocabulary(own).spelled if data}
    made = [n for n, data in enumerate(byte_vocabulary(new).spelled) if data and data not in old]
    rows = model.get_input_embeddings().weight[made].detach()
    assert abs(float(rows.std() / before.std()) - 1) < 0.05
    assert abs(float(rows.mean() - before.mean())) < 0.01


def test_an_end_token_is_needed() -> None:
    own, new = byte_level(), byte_level(OTHER, 300, (), template=False)
    with pytest.raises(TokenizerError, match="the new tokenizer has no end token"):
        transplant(model_of(own), own, new, specials="new")
    assert transplant(model_of(own), own, new).tokenizer.eos_token == "<end>"


def test_quantised_models_are_refused_with_what_to_do() -> None:
    own = byte_level()
    model = model_of(own)
    model.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True)
    with pytest.raises(TokenizerError, match="quantised.*dequantize"):
        transplant(model, own, own)
    model = model_of(own)
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(
        torch.zeros(4, 4, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(TokenizerError, match="quantised"):
        transplant(model, own, own, Mean())


def test_a_tokenizer_without_bytes_is_refused() -> None:
    from tests.tiny_tokenizers import word_piece

    own = byte_level()
    with pytest.raises(TokenizerError, match="the new tokenizer: .*decoder is WordPiece"):
        transplant(model_of(own), own, word_piece())


def test_an_adapter_in_the_layers_is_refused_before_anything_changes() -> None:
    own = byte_level()
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    adapted: Any = get_peft_model(model_of(own), config)
    model = adapted.get_base_model()
    with pytest.raises(TokenizerError, match="merge_and_unload"):
        transplant(model, own, byte_level(OTHER))
    assert model.config.vocab_size == len(own)
    assert transplant(adapted.merge_and_unload(), own, byte_level(OTHER)).made


def test_a_model_with_fewer_layers_than_its_configuration_says_is_refused() -> None:
    own = byte_level()
    model = model_of(own)
    del model.model.layers[1]
    with pytest.raises(TokenizerError, match=r"layers\.1\..* could not be loaded"):
        transplant(model, own, own)
