"""TokenAdapt's equations, on the figures of its paper's toy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.mean import uniform
from lengthwise.tokenization.transplant.surgery import transplant
from lengthwise.tokenization.transplant.tokenadapt import (
    TokenAdapt,
    global_weights,
    hybrid,
    lengths,
    local_weights,
)
from lengthwise.tokenization.transplant.tokenadapt_own import TokenAdaptOwn
from tests.tokenization.transplant.tiny_pairs import OTHER, byte_level, model_of


def test_local_weights_of_a_token_of_six_letters_in_pieces_of_four_and_two() -> None:
    found = local_weights([7, 9], [0.8, 0.5], [4, 2], tau=0.3)
    assert found[7] == pytest.approx(0.6908, abs=5e-5)
    assert found[9] == pytest.approx(0.3092, abs=5e-5)
    # With a temperature of 1 they are the softmax of c = (0.6206, 0.3794).
    flat = torch.tensor(list(local_weights([7, 9], [0.8, 0.5], [4, 2], tau=1.0).values()))
    c = torch.tensor([0.6206, 0.3794])
    assert torch.allclose(flat.float(), c.softmax(0), atol=1e-4)
    shares = torch.tensor([0.8, 0.5]).softmax(0)
    assert shares.tolist() == pytest.approx([0.5744, 0.4256], abs=5e-5)


def test_a_piece_that_stands_twice_has_both_weights() -> None:
    found = local_weights([7, 7], [0.8, 0.8], [3, 3], tau=0.3)
    assert found == {7: pytest.approx(1.0)}
    assert uniform([7, 7, 8]) == {7: pytest.approx(2 / 3), 8: pytest.approx(1 / 3)}


def test_neighbours_below_the_threshold_are_none() -> None:
    found = global_weights([1, 2, 3], [0.9, 0.6, -0.1], tau=0.3, threshold=0.0)
    assert found.keys() == {1, 2}
    assert found[1] / found[2] == pytest.approx(torch.tensor(0.3 / 0.30001).exp().item())
    assert global_weights([1], [-0.5], tau=0.3, threshold=0.0) == {}


def test_one_side_stands_for_an_empty_one() -> None:
    assert hybrid({1: 1.0}, {2: 0.5, 1: 0.5}, 0.3) == {1: pytest.approx(0.85), 2: 0.15}
    assert hybrid({}, {2: 1.0}, 0.3) == {2: 1.0}
    assert hybrid({1: 1.0}, {}, 0.3) == {1: 1.0}
    assert hybrid({}, {}, 0.3) == {}


def test_half_characters_are_as_long_as_their_bytes() -> None:
    assert lengths(["çok".encode(), b" "]) == [3, 1]
    assert lengths([b"\xc3", b"\xa7ok"]) == [1, 3]


def encoder(folder: Path) -> str:
    """A random encoder of letters."""
    torch.manual_seed(0)
    letters = {"[UNK]": 0, "[PAD]": 1} | {chr(n): n - 95 for n in range(97, 123)}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    BertModel(BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )).save_pretrained(folder)  # fmt: skip
    return str(folder)


def test_rows_are_what_the_equations_give(tmp_path: Path) -> None:
    own, new, told = byte_level(), byte_level(OTHER, 420), []
    by = TokenAdapt(encoder=encoder(tmp_path))
    model = model_of(own)
    before = model.get_input_embeddings().weight.detach().clone()
    found = transplant(model, own, new, by, told=lambda what, share: told.append((what, share)))
    assert found.made and ("nearest tokens", 1.0) in told
    # With one neighbour that counts alone, a row is that neighbour's.
    model = model_of(own)
    transplant(model, own, new, TokenAdapt(encoder=by.encoder, w_g=1.0, k=1))
    rows = model.get_input_embeddings().weight
    word = new.get_vocab()["Ġkedi"]
    assert any(torch.equal(rows[word], each) for each in before)
    # Without neighbours it is a mixture of the pieces alone.
    model = model_of(own)
    transplant(model, own, new, TokenAdapt(encoder=by.encoder, w_g=0.0))
    cut = own.encode(" kedi")
    solved = torch.linalg.lstsq(before[cut].T, model.get_input_embeddings().weight[word, :, None])
    assert solved.solution.sum().item() == pytest.approx(1.0, abs=1e-4)


def test_the_variant_without_an_encoder_asks_the_models_own_rows() -> None:
    own, new = byte_level(), byte_level(OTHER, 420)
    model = model_of(own)
    found = transplant(model, own, new, TokenAdaptOwn())
    assert found.made > 10 and model.get_input_embeddings().weight.isfinite().all()
    same = model_of(own)
    transplant(same, own, new, TokenAdaptOwn())
    assert torch.equal(same.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_a_missing_encoder_is_refused_with_what_to_do() -> None:
    own = byte_level()
    with pytest.raises(TokenizerError, match="no encoder at 'nope'.*tokenadapt_own"):
        transplant(model_of(own), own, byte_level(OTHER), TokenAdapt(encoder="nope"))


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"k": -1}, {"w_g": 1.1}, {"threshold": 2.0}])
def test_options_have_bounds(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(TokenizerError, match=f"tokenadapt: {name}="):
        TokenAdapt(**wrong)  # type: ignore[arg-type]
