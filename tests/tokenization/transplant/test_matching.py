"""Tokens of a model's settings after a transplant: who ends, begins and pads, and what is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lengthwise.tokenization.transplant.surgery import Transplanted, transplant
from lengthwise.tokenization.transplant.trim import trimmed
from tests.tokenization.transplant.tiny_pairs import OTHER, TEXT, byte_level, model_of, pieces

END = "<|endoftext|>"


def one_for_all() -> PreTrainedTokenizerFast:
    """GPT-2's roles: one token begins, ends, and stands for the unknown."""
    made = byte_level.__wrapped__(specials=(END,), template=False)
    made.bos_token = made.unk_token = END
    return made


def model_and_generation(own: PreTrainedTokenizerFast, **generation: Any) -> Any:
    model = model_of(own)
    model.generation_config.eos_token_id = own.eos_token_id
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    return model


def words(found: Transplanted, ids: int | list[int]) -> Any:
    return found.tokenizer.convert_ids_to_tokens(ids)


def test_a_token_of_three_roles_stays_the_end_beside_a_new_unknown() -> None:
    own = one_for_all()
    model = model_and_generation(own)
    inner = model.get_input_embeddings().weight.detach().clone()
    found = transplant(model, own, pieces(OTHER))
    for config in (model.config, model.generation_config):
        assert words(found, config.eos_token_id) == found.tokenizer.eos_token == END
    assert words(found, model.config.bos_token_id) == END
    # A row of the end would be written as often as the end.
    unknown = model.get_input_embeddings().weight[found.tokenizer.unk_token_id]
    assert not torch.equal(unknown, inner[own.eos_token_id])


def test_every_new_token_with_the_row_of_the_end_is_an_end() -> None:
    own = one_for_all()
    model = model_and_generation(own)
    inner = model.get_input_embeddings().weight.detach().clone()
    found = transplant(model, own, pieces(OTHER), specials="new")
    for config in (model.config, model.generation_config):
        assert words(found, config.eos_token_id) == ["</s>", "<s>"]
    assert words(found, model.config.bos_token_id) == "<s>"
    ends = found.moves.first(own.eos_token_id, "eos_token")
    assert ends is not None and words(found, ends) == "</s>"
    rows = model.get_input_embeddings().weight
    same = [n for n in range(found.tokens) if torch.equal(rows[n], inner[own.eos_token_id])]
    assert sorted(model.config.eos_token_id) == same


def test_padding_that_was_the_end_is_no_end_where_the_new_tokenizer_has_its_own() -> None:
    own = byte_level.__wrapped__(specials=("<end>",), template=False)
    own.pad_token = "<end>"
    new = byte_level.__wrapped__(OTHER, 300, ("<pad>", "<|eot|>"), template=False)
    new.eos_token = "<|eot|>"
    model = model_of(own)
    found = transplant(model, own, new, specials="new")
    assert words(found, model.config.eos_token_id) == "<|eot|>"
    assert words(found, model.config.pad_token_id) == "<pad>"
    assert model.get_input_embeddings().padding_idx == found.tokenizer.pad_token_id


def test_the_new_end_may_be_another_token_that_the_model_knows() -> None:
    own = byte_level(specials=("<|im_end|>", END, "<|im_start|>"))
    new = byte_level(OTHER, 300, (END,), template=False)
    model = model_and_generation(own)
    inner = model.get_input_embeddings().weight.detach().clone()
    found = transplant(model, own, new, specials="new")
    assert words(found, model.config.eos_token_id) == END
    assert model.generation_config.eos_token_id == found.tokenizer.eos_token_id
    row = model.get_input_embeddings().weight[found.tokenizer.eos_token_id]
    assert torch.equal(row, inner[own.get_vocab()[END]])
    assert "eos_token_id" not in found.gone


def test_words_that_are_barred_or_favoured_are_the_same_words() -> None:
    own = byte_level()
    old = own.get_vocab()
    turn, both = old["<turn>"], [old["a"], old["t"]]
    gone = next(each for word, each in old.items() if word == "Ġcat")
    model = model_and_generation(
        own, bad_words_ids=[[turn], both, [gone]], force_words_ids=[[[turn], both]],
        begin_suppress_tokens=[turn], sequence_bias={(turn,): 2.0, (gone,): -1.0},
    )  # fmt: skip
    found = transplant(model, own, byte_level(OTHER, 300, ("<|eot|>",), template=False))
    new, said = found.tokenizer.get_vocab(), model.generation_config
    assert said.bad_words_ids == [[new["<turn>"]], [new["a"], new["t"]]]
    assert said.force_words_ids == [[[new["<turn>"]], [new["a"], new["t"]]]]
    assert said.begin_suppress_tokens == [new["<turn>"]]
    assert said.sequence_bias == {(new["<turn>"],): 2.0}
    assert (found.gone, found.partly) == ([], ["bad_words_ids", "sequence_bias"])
    listed = model_and_generation(own, sequence_bias=[[both, 1.5], [[gone], 1.0]])
    transplant(listed, own, byte_level(OTHER, 300, ("<|eot|>",), template=False))
    assert listed.generation_config.sequence_bias == [[[new["a"], new["t"]], 1.5]]


def test_a_setting_that_keeps_one_of_its_tokens_is_not_gone() -> None:
    own = byte_level()
    turn = own.get_vocab()["<turn>"]
    model = model_and_generation(own, eos_token_id=[own.eos_token_id, turn], suppress_tokens=[turn])
    new = byte_level(OTHER, 300, ("<|eot|>",), template=False)
    found = transplant(model, own, new, specials="new")
    assert model.generation_config.eos_token_id == [found.tokenizer.eos_token_id]
    assert model.generation_config.suppress_tokens is None
    assert found.partly == ["eos_token_id"]
    assert found.gone == ["pad_token_id", "suppress_tokens"]


def test_padding_beyond_a_trimmed_vocabulary_is_still_padding() -> None:
    own = byte_level.__wrapped__(TEXT + OTHER, 420, ("<end>", "<turn>"), template=False)
    own.add_special_tokens({"pad_token": "<pad>"})
    model = model_of(own)
    found = transplant(model, own, trimmed(own, lambda: iter(["The cat"])), multiple=1)
    assert found.tokens <= own.pad_token_id
    expected = found.tokenizer.pad_token_id
    assert model.get_input_embeddings().padding_idx == model.config.pad_token_id == expected


def test_a_mark_that_is_special_in_one_tokenizer_alone_keeps_its_row() -> None:
    own = byte_level()
    new = byte_level.__wrapped__(OTHER, 300, ("<|eot|>",), template=False)
    new.add_tokens(["<turn>"])
    model = model_of(own)
    inner = model.get_input_embeddings().weight.detach().clone()
    found = transplant(model, own, new)
    row = model.get_input_embeddings().weight[found.tokenizer.get_vocab()["<turn>"]]
    assert torch.equal(row, inner[own.get_vocab()["<turn>"]])


@pytest.mark.parametrize("known", [True, False])
def test_special_tokens_that_the_model_does_not_know_are_counted(known: bool) -> None:
    own = byte_level(specials=("<end>", END) if known else ("<end>",), template=False)
    model = model_of(own)
    found = transplant(model, own, byte_level(OTHER, 300, (END,), template=False))
    assert found.strange == (0 if known else 1)
    assert found.copied + found.made + found.strange == found.tokens
