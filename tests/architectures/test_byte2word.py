"""Byte2Word: a slim input side, words that see their own bytes alone, masks that hide them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

import lengthwise
from lengthwise import architectures
from lengthwise.architectures.byte2word import (
    FILLING,
    Byte2Word,
    Byte2WordConfig,
    Byte2WordForMaskedLM,
    Byte2WordForSequenceClassification,
    ByteWords,
    bytes_of_words,
    input_weights,
    pieces_of,
)
from lengthwise.errors import LengthwiseError

ROWS = [["The", "cats", "\u00dcber"], ["x"]]


def config(**given: Any) -> Byte2WordConfig:
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 2, "byte_size": 16, "max_position_embeddings": 16,
             "num_labels": 3, "initializer_range": 0.3}  # fmt: skip
    torch.manual_seed(0)
    return Byte2WordConfig(**(sizes | given))


def test_the_input_side_is_below_a_tenth_of_berts_table() -> None:
    given = Byte2WordConfig()
    assert (given.hidden_size, given.byte_size) == (768, 192)
    assert input_weights(given) / (30522 * 768) < 0.1
    inside = Byte2Word(config())
    table = inside.backbone.embeddings.word_embeddings.weight
    assert table.numel() == 32
    assert sum(w.numel() for w in inside.words.parameters()) == input_weights(config())


def test_bytes_of_words_are_utf8_and_filled_up() -> None:
    found = bytes_of_words(ROWS, 32)
    assert found.shape == (2, 3, 5)
    assert found[0, 2].tolist() == [195, 156, 98, 101, 114]
    assert found[0, 0].tolist() == [84, 104, 101, FILLING, FILLING]
    assert (found[1, 1:] == FILLING).all()
    assert bytes_of_words([], 32).shape[0] == 0


def test_long_words_are_cut_between_characters() -> None:
    found, cut = pieces_of(["a" * 10, "\u65e5\u672c\u65e5", "ok"], 4)
    assert found == ["aaaa", "aaaa", "aa", "\u65e5", "\u672c", "\u65e5", "ok"] and cut == 2
    with pytest.raises(ValueError, match="9 bytes, and at most 8"):
        bytes_of_words([["a" * 9]], 8)
    with pytest.raises(ValueError, match="give at least 4"):
        pieces_of(["a"], 3)
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        bytes_of_words([["\ud800"]], 8)


@torch.no_grad()
def test_a_vector_is_of_the_words_own_bytes() -> None:
    torch.manual_seed(0)
    words = ByteWords(config(queries=2))
    found = words(bytes_of_words(ROWS, 32))
    wider = torch.nn.functional.pad(bytes_of_words(ROWS, 32), (0, 6), value=FILLING)
    torch.testing.assert_close(words(wider), found)
    torch.testing.assert_close(words(bytes_of_words([["cats"]], 32))[0, 0], found[0, 1])
    swapped = words(bytes_of_words([["cast"]], 32))[0, 0]
    assert (swapped - found[0, 1]).abs().max() > 1e-4
    torch.testing.assert_close(found[1, 2], words.out.bias)


@torch.no_grad()
def test_a_masked_word_shows_none_of_its_bytes() -> None:
    model = Byte2WordForMaskedLM(config()).eval()
    masked = torch.tensor([[False, True, False], [False] * 3])
    one = model(bytes_of_words(ROWS, 32), masked).logits
    hidden = [["The", "dogs", "\u00dcber"], ["x"]]
    torch.testing.assert_close(model(bytes_of_words(hidden, 32), masked).logits, one)
    seen = [["She", "cats", "\u00dcber"], ["x"]]
    assert (model(bytes_of_words(seen, 32), masked).logits - one).abs().max() > 1e-4
    assert one.shape == (1, 4, 51)


@torch.no_grad()
def test_rows_that_are_filled_up_are_what_they_are_alone() -> None:
    model = Byte2WordForSequenceClassification(config()).eval()
    both = model(bytes_of_words(ROWS, 32)).logits
    torch.testing.assert_close(model(bytes_of_words(ROWS[1:], 32)).logits, both[1:])


def test_the_loss_is_of_all_slots_of_a_masked_word() -> None:
    model = Byte2WordForMaskedLM(config()).eval()
    masked = torch.tensor([[True, True, False], [False] * 3])
    labels = torch.full((2, 3, 4), 50)
    labels[0, 0, 0], labels[0, 1, :2] = 7, torch.tensor([3, 4])
    out = model(bytes_of_words(ROWS, 32), masked, labels)
    probs = out.logits.log_softmax(-1)
    wanted = -sum(
        float(probs[word, slot, labels[0, word, slot]]) for word in range(2) for slot in range(4)
    )
    assert float(out.loss) == pytest.approx(wanted / 2, rel=1e-5)


def test_the_backbone_goes_on_to_other_tasks(tmp_path: Path) -> None:
    architectures.register()
    model = Byte2WordForMaskedLM(config()).eval()
    model.save_pretrained(tmp_path)
    words, masked = bytes_of_words(ROWS, 32), torch.ones(2, 3, dtype=torch.bool)
    again = Byte2WordForMaskedLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(words, masked).logits, model(words, masked).logits)
    reader = AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(reader(words), model.reader(words))
    tuned = Byte2WordForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(tuned.reader(words), model.reader(words))


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="reads up to 15 words of 32"):
        Byte2Word(config())(torch.zeros(1, 16, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="slots=0"):
        Byte2WordConfig(slots=0)
    with pytest.raises(LengthwiseError, match="byte2word.*reads words"):
        lengthwise.wrap(Byte2Word(config()))
