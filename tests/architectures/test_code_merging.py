"""Merging of subtokens: groups of one change nothing, weights of a group sum to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import lengthwise
from lengthwise import architectures
from lengthwise.architectures.code_merging import (
    MERGINGS,
    CodeMerging,
    CodeMergingConfig,
    padded_groups,
)
from lengthwise.errors import LengthwiseError

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip


def encoder() -> PreTrainedModel:
    torch.manual_seed(0)
    made = RobertaConfig(**SIZES, max_position_embeddings=40, num_labels=3, initializer_range=0.3)
    return RobertaForSequenceClassification(made).eval()


def decoder() -> PreTrainedModel:
    torch.manual_seed(0)
    made = LlamaConfig(**SIZES, tie_word_embeddings=True, initializer_range=0.3)
    return LlamaForCausalLM(made).eval()


def ids(rows: int = 2, count: int = 9) -> Tensor:
    return torch.randint(5, 64, (rows, count), generator=torch.Generator().manual_seed(0))


def merged(model: PreTrainedModel, merging: str) -> Any:
    found = CodeMerging.over(model, merging).eval()
    if merging == "learned":
        torch.manual_seed(1)
        torch.nn.init.normal_(found.score.weight)
    return found


each_way = pytest.mark.parametrize("merging", MERGINGS)
each_model = pytest.mark.parametrize("made", [encoder, decoder])


@each_way
@each_model
@torch.no_grad()
def test_groups_of_one_are_the_model_itself(made: Any, merging: str) -> None:
    model = made()
    found = merged(model, merging)(ids(), torch.arange(9).expand(2, -1))
    assert torch.equal(found.logits, model(ids()).logits)


GROUPS = torch.tensor([[0, 0, 0, 1, 2, 2, 3, 3, 4], [0, 1, 2, 3, 3, 3, 4, 0, 0]])
MASK = torch.tensor([[1] * 9, [1] * 7 + [0] * 2])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@each_way
def test_it_takes_the_numbers_of_its_model(merging: str, dtype: torch.dtype) -> None:
    model, groups = decoder().to(dtype), torch.tensor([[0, 0, 1, 2, 2, 2, 3, 4, 4]])
    found = merged(model, merging)
    said = found(ids(1), groups, labels=ids(1, 5))
    assert said.logits.dtype == dtype and torch.isfinite(said.loss)
    embedded, mask = found.get_input_embeddings()(ids(1)), torch.ones_like(groups)
    vectors = found.merge(embedded, groups, mask)[0]
    wanted = found.double().merge(embedded.double(), groups, mask)[0]
    torch.testing.assert_close(vectors.double(), wanted, rtol=1e-2, atol=1e-2)


def test_mean_is_the_mean_and_learned_begins_as_it() -> None:
    found = CodeMerging.over(encoder(), "mean")
    embedded = found.get_input_embeddings()(ids())
    rows, there = found.merge(embedded, GROUPS, MASK)
    assert rows.shape == (2, 5, 32) and there.tolist() == [[1] * 5, [1] * 5]
    torch.testing.assert_close(rows[0, 0], embedded[0, :3].mean(0))
    torch.testing.assert_close(rows[1, 3], embedded[1, 3:6].mean(0))
    torch.testing.assert_close(rows[1, 4], embedded[1, 6])
    fresh = CodeMerging.over(encoder(), "learned")
    torch.testing.assert_close(fresh.merge(embedded, GROUPS, MASK)[0], rows)


def test_learned_weights_sum_to_one_in_each_group_and_are_a_softmax() -> None:
    found = merged(encoder(), "learned")
    embedded = found.get_input_embeddings()(ids())
    weights = found.weights(embedded, GROUPS, MASK)
    sums = torch.zeros(2, 5).scatter_add(1, GROUPS, weights)
    torch.testing.assert_close(sums, torch.ones(2, 5))
    wanted = found.score(embedded[0, :3])[:, 0].softmax(0)
    torch.testing.assert_close(weights[0, :3], wanted)
    weights[0, 0].backward()
    assert found.score.weight.grad.abs().max() > 0


@each_way
@torch.no_grad()
def test_padded_rows_are_what_they_are_alone(merging: str) -> None:
    model = merged(encoder(), merging)
    both = model(ids(), GROUPS, MASK).logits
    alone = model(ids()[1:, :7], GROUPS[1:, :7]).logits
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_truncation_is_behind_the_merge() -> None:
    model = merged(decoder(), "mean")
    assert model(ids(), GROUPS, MASK, most=3).logits.shape[1] == 3
    cut = model(ids()[:1, :6], GROUPS[:1, :6]).logits
    torch.testing.assert_close(model(ids()[:1], GROUPS[:1], most=3).logits, cut)


@each_way
@each_model
def test_what_is_saved_is_loaded(made: Any, merging: str, tmp_path: Path) -> None:
    architectures.register()
    model = merged(made(), merging)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert again.config.merging == merging and type(again.inner) is type(model.inner)
    found, wanted = (each(ids(), GROUPS, MASK).logits for each in (again, model))
    assert torch.equal(found, wanted)


def test_what_cannot_be_is_refused() -> None:
    model = merged(encoder(), "mean")
    for wrong in (GROUPS + 1, GROUPS * 2, GROUPS[:, :5], -GROUPS):
        with pytest.raises(ValueError, match="groups"):
            model(ids(), wrong, MASK)
    with pytest.raises(ValueError, match="padding stands at the right"):
        model(ids(), GROUPS, MASK.flip(1))
    with pytest.raises(ValueError, match="none of mean, learned"):
        CodeMerging.over(encoder(), "max")
    with pytest.raises(ValueError, match="head='Nobody' is no model"):
        CodeMerging(CodeMergingConfig("mean", encoder().config, "Nobody"))
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=64, d_model=32, d_ff=48, d_kv=16, num_layers=1, num_heads=2)
    )
    with pytest.raises(ValueError, match="merge its encoder"):
        CodeMerging.over(t5)
    with pytest.raises(LengthwiseError, match="code_merging.*reads words or merged"):
        lengthwise.wrap(model)


@torch.no_grad()
def test_the_encoder_of_an_encoder_decoder_can_be_merged() -> None:
    torch.manual_seed(0)
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=64, d_model=32, d_ff=48, d_kv=16, num_layers=1, num_heads=2)
    ).eval()
    found = CodeMerging.over(t5.get_encoder()).eval()(ids(), torch.arange(9).expand(2, -1))
    wanted = t5.get_encoder()(ids()).last_hidden_state
    torch.testing.assert_close(found.last_hidden_state, wanted)


def test_groups_of_several_texts_are_one_batch() -> None:
    assert padded_groups([[0, 0, 1], [0]]).tolist() == [[0, 0, 1], [0, 0, 0]]
