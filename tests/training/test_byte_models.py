"""Training over words, bytes and windows: losses fall, and what a held-out text costs is right."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from lengthwise.architectures.byte2word import Byte2WordConfig, Byte2WordForMaskedLM
from lengthwise.architectures.learn_your_tokens import LearnYourTokens, LearnYourTokensConfig
from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.byte_laws import ByteNGram
from lengthwise.tokenization.equal_info import EqualInfo
from lengthwise.training.byte_models import (
    Fit,
    bits_of_rows,
    fit_rows,
    train_equal_info,
    train_learn_your_tokens,
    window_rows,
    word_rows,
)
from lengthwise.training.config import TrainingError
from lengthwise.training.masked_words import (
    labels_of,
    masks,
    score_masked,
    train_byte2word,
    words_of_text,
)

TEXT = "the cat sat on the mat and the dog sat on the log " * 30
CODER = EqualInfo(ByteNGram.learn(TEXT.encode()), 16, 256)


def llama(ids: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=ids, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )).eval()  # fmt: skip


def pooled() -> LearnYourTokens:
    torch.manual_seed(0)
    return LearnYourTokens(LearnYourTokensConfig(
        longest=6, word_layers=1, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2,
    )).eval()  # fmt: skip


def test_windows_are_learned_below_chance() -> None:
    data = TEXT.encode()
    uniform = len(CODER.encode(data[:300]).tokens) * 8 / 300
    steps: list[float] = []
    bits = train_equal_info(
        llama(257), CODER, data, data[:300], Fit(steps=40, batch=4), length=32,
        told=lambda step, loss: steps.append(loss),
    )  # fmt: skip
    assert len(steps) == 40 and steps[-1] < steps[0]
    assert bits < 0.8 * uniform


def test_rows_of_windows_are_the_text() -> None:
    rows = window_rows(CODER, TEXT.encode()[:500], 9)
    assert all(row[0] == 256 and len(row) <= 9 for row in rows)
    tokens = [token for row in rows for token in row[1:]]
    assert tokens == CODER.encode(TEXT[:500]).tokens.tolist()


@torch.no_grad()
def test_bits_of_rows_are_the_sum_of_their_tokens() -> None:
    model, rows = llama(20), [[1, 2, 3, 4], [5, 6], [7, 8, 9]]
    wanted = 0.0
    for row in rows:
        logits = model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
        wanted -= sum(float(logits[at, token]) for at, token in enumerate(row[1:]))
    assert bits_of_rows(model, rows) == pytest.approx(wanted / math.log(2), rel=1e-5)


def test_words_are_learned_and_told_in_bits_a_byte() -> None:
    model = pooled()
    held = "the dog sat on the mat "
    rows = word_rows(model, held, 4)
    assert [len(row) for row in rows] == [4, 3]
    before = train_learn_your_tokens(model, TEXT, held, Fit(steps=1, batch=2, lr=1e-9), words=16)
    assert 6 < before < 12
    after = train_learn_your_tokens(model, TEXT, held, Fit(steps=60, batch=4), words=16)
    assert after < before / 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"text": ""}, "no text to train on"),
        ({"held_out": b""}, "none held out"),
        ({"text": "\u65e5\u672c\u8a9e" * 40}, "would be no words .1 are cut"),
        ({"text": "a \udc80 b"}, "half of a surrogate pair"),
        ({"words": 1}, "words=1"),
    ],
)
def test_texts_without_words_are_refused(changed: dict[str, Any], reason: str) -> None:
    given: dict[str, Any] = {"text": TEXT, "held_out": TEXT, "how": Fit(steps=1)} | changed
    with pytest.raises(LengthwiseError, match=reason):
        train_learn_your_tokens(pooled(), **given)


def test_any_bytes_can_be_trained_on() -> None:
    data = b"\xff\xfe a\x00b \x80 " * 20
    bits = train_learn_your_tokens(pooled(), data, data, Fit(steps=2, batch=2), words=8)
    assert math.isfinite(bits)


@pytest.mark.parametrize(
    ("model", "changed", "reason"),
    [
        (256, {}, "256 ids: windows need 257"),
        (257, {"text": b""}, "no text to train on"),
        (257, {"length": 1}, "at least the 2 tokens"),
    ],
)
def test_windows_that_cannot_be_learned_are_refused(
    model: int, changed: dict[str, Any], reason: str
) -> None:
    given: dict[str, Any] = {"text": TEXT.encode(), "held_out": b"the", "how": Fit(steps=1)}
    with pytest.raises(TrainingError, match=reason):
        train_equal_info(llama(model), CODER, **(given | changed))


def test_a_rate_rises_over_its_first_updates_and_falls() -> None:
    def moved(how: Fit) -> float:
        """How far the first update moves a weight: Adam's first step is the rate."""
        model = llama(257)
        before = model.lm_head.weight.detach().clone()
        fit_rows(model, window_rows(CODER, TEXT.encode()[:200], 9), how)
        return float((model.lm_head.weight.detach() - before).abs().max())

    one = moved(Fit(steps=1, lr=1e-3))
    assert one == pytest.approx(1e-3, rel=0.01)
    # Updates of a third, two thirds, and what has fallen to six tenths.
    assert one < moved(Fit(steps=3, warmup=2, lr=1e-3)) < 1.7 * one
    assert 1.7 * one < moved(Fit(steps=3, lr=1e-3))


@pytest.mark.parametrize("wrong", [
    {"steps": 0}, {"batch": 0}, {"lr": 0.0}, {"lr": math.nan}, {"warmup": -1}, {"warmup": 400},
])  # fmt: skip
def test_rates_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        Fit(**wrong)


# Masked words.


def wordpiece() -> Tokenizer:
    words = ["[UNK]", "the", "cat", "sat", "on", "mat", "and", "dog", "log", "c", "##a", "##t"]
    made = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def masked_model(ids: int = 12) -> Byte2WordForMaskedLM:
    torch.manual_seed(0)
    return Byte2WordForMaskedLM(Byte2WordConfig(
        vocab_size=ids, slots=2, byte_size=16, longest=8, hidden_size=32, intermediate_size=48,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=32,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )).eval()  # fmt: skip


def test_labels_are_subwords_and_then_none() -> None:
    found, short = labels_of([["cat", "cata", "catat"], ["x"]], wordpiece(), 2)
    assert found[0].tolist() == [[2, 12], [2, 10], [2, 10]] and found[1, 0].tolist() == [0, 12]
    assert short == 1
    found, short = labels_of([["ca", "cat"]], wordpiece(), 1)
    assert found[0].tolist() == [[9], [2]] and short == 1


def test_masks_hide_a_share_and_one_at_least() -> None:
    found = masks([["a"] * 20, ["b"] * 3], 0.15, Random(0))
    assert found.sum(1).tolist() == [3, 1] and not found[1, 3:].any()


def test_masked_words_are_learned() -> None:
    model, tokenizer = masked_model(), wordpiece()
    rows = [words_of_text(TEXT, 8)[0][:16]]
    before = score_masked(model, tokenizer, rows)
    found = train_byte2word(
        model, tokenizer, TEXT, TEXT[:400], Fit(steps=60, batch=8, lr=3e-3), words=16
    )
    assert found.bits < before.bits / 2 and found.right > 0.2 and found.cut == found.short == 0


def test_what_cannot_be_trained_is_refused() -> None:
    tokenizer = wordpiece()
    for model, changed, reason in (
        (masked_model(), {"text": " "}, "no word"),
        (masked_model(), {"words": 32}, "rows of 1 to 31 words"),
        (masked_model(), {"share": 0.0}, "share=0.0"),
        (masked_model(13), {}, "make the model with vocab_size=12"),
        (masked_model(), {"text": "a \ud800"}, "half of a surrogate pair"),
    ):
        given: dict[str, Any] = {"text": TEXT, "held_out": TEXT, "words": 16, "how": Fit(steps=1)}
        with pytest.raises(LengthwiseError, match=reason):
            train_byte2word(model, tokenizer, **(given | changed))


def test_longer_words_are_cut_and_said() -> None:
    found = train_byte2word(
        masked_model(), wordpiece(), TEXT, "a most extraordinarily long word", Fit(steps=1, batch=1)
        , words=16,
    )  # fmt: skip
    assert found.cut == 1
