"""Laws of the next byte of a model: exact, whatever the prompt ends in, and the same by any way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.testing.tiny import tiny_model
from lengthwise.tokenization.valid_encodings import spelling_of
from tests.api.byte_models import byte_model, merging
from tests.tiny_tokenizers import byte_fallback, word_piece

TEXT = "we see the cab and the café then aba thé"
RECIPES = ["full", "snapkv(budget=25%, window=4, floor=4)", "kivi(bits=4, group=8, residual=16)",
           "streaming(window=16)", "lookup"]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return byte_model()


def _token_law(model: lengthwise.Model, ids: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    with torch.no_grad():
        logits = model.adapted.model(torch.tensor([ids])).logits[0, -1]
    return torch.softmax(logits.double(), -1).numpy()


def test_behind_a_whole_token_it_is_the_law_of_tokens_by_their_first_byte(
    model: lengthwise.Model,
) -> None:
    prompt = "we see it!"
    vocabulary = spelling_of(merging()).vocabulary
    tokens = merging().encode(prompt)
    law = _token_law(model, tokens)
    valid = spelling_of(merging()).viable(tokens, vocabulary.ids.tolist())
    weights = np.where(valid, law[vocabulary.ids], 0.0)
    end = law[vocabulary.marks].sum()
    wanted = vocabulary.by_next_byte(vocabulary.all, 0, weights) / (weights.sum() + end)
    # No token begins with "!" and goes on, so nothing else covers this text.
    found = model.bytes(prompt, tolerance=0).law()
    np.testing.assert_allclose(found.probs, wanted, atol=1e-5)
    assert found.end == pytest.approx(end / (weights.sum() + end), abs=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("cut", (18, 20, 26))
def test_laws_are_one_at_every_cut(model: lengthwise.Model, recipe: str, cut: int) -> None:
    law = model.bytes(TEXT.encode()[:cut], recipe, tolerance=0).law()
    assert float(law.probs.sum()) + law.end == pytest.approx(1, abs=1e-9)
    assert abs(law.leak) < 1e-9


def test_a_prompt_says_what_feeding_it_says(model: lengthwise.Model) -> None:
    data = TEXT.encode()
    fed = model.bytes(data[:12], tolerance=0)
    for number in range(12, len(data), 3):
        whole = model.bytes(data[:number], tolerance=0).law()
        np.testing.assert_allclose(fed.law().probs, whole.probs, atol=1e-5)
        fed.feed(data[number : number + 3])


def test_within_a_character_only_its_other_bytes_follow(model: lengthwise.Model) -> None:
    law = model.bytes("the caf\u00e9".encode()[:-1]).law()
    assert law.probs[0x80:0xC0].sum() == pytest.approx(1, abs=1e-6)


def test_logprob_is_a_sum_and_reads_nothing(model: lengthwise.Model) -> None:
    text = model.bytes("we see ")
    whole = text.logprob("the cab")
    one = text.fork()
    assert one.feed("the") + one.feed(" cab") == pytest.approx(whole, abs=1e-9)
    assert text.logprob("the cab") == whole


def test_greedy_tokens_follow_where_one_encoding_is_left(model: lengthwise.Model) -> None:
    written = model.bytes("we see it!").generate(40)
    assert written.drawn == 0 and written.tokens
    ids = model.generate("we see it!", max_new_tokens=len(written.tokens)).token_ids
    vocabulary = spelling_of(merging()).vocabulary
    assert vocabulary.text(ids)[:40] == written.data
    cut = model.bytes("we see th").generate(40, temperature=1.0, seed=3)
    assert cut == model.bytes("we see th").generate(40, temperature=1.0, seed=3)
    assert len(cut.data) <= 40 and cut.text == cut.data.decode(errors="replace")


def test_drafting_changes_nothing_behind_a_cut_token(model: lengthwise.Model) -> None:
    plain = model.bytes(TEXT[:-1]).generate(24)
    assert plain.tokens
    assert model.bytes(TEXT[:-1], "lookup").generate(24) == plain


def test_sampled_texts_follow_the_law() -> None:
    model = byte_model(seed=4)
    text, counts = model.bytes("we see th"), np.zeros(256)
    for seed in range(200):
        counts[text.generate(1, temperature=1.0, seed=seed).data[0]] += 1
    law = text.law().probs
    top = np.argsort(-law)[:3]
    spread = np.sqrt(law[top] * (1 - law[top]) / 200)
    assert (np.abs(counts[top] / 200 - law[top]) < 4.5 * spread).all()


@pytest.mark.parametrize("order", ["spm", "psm"])
def test_filling_in(order: str) -> None:
    model = byte_model(marks=4)
    pre, suf, mid = (merging(4).get_vocab()[f"<|fim_{each}|>"] for each in
                     ("prefix", "suffix", "middle"))  # fmt: skip
    before, behind = (merging(4).encode(each) for each in ("see it!", " then"))
    found = model.bytes("see it!", suffix=" then", order=order, tolerance=0)
    ids = {"spm": [pre, suf, *behind, mid, *before],
           "psm": [pre, *before, suf, *behind, mid]}[order]  # fmt: skip
    law = _token_law(model, ids)
    first = int(law[spelling_of(merging(4)).vocabulary.ids].argmax())
    byte = spelling_of(merging(4)).vocabulary.spelled[
        int(spelling_of(merging(4)).vocabulary.ids[first])
    ]
    assert byte is not None and found.law().probs[byte[0]] > 0
    assert found.law().probs.sum() + found.law().end == pytest.approx(1, abs=1e-9)
    with pytest.raises(LengthwiseError, match="allowed are spm, psm"):
        model.bytes("see it!", suffix=" then", order="x")


def test_sentencepiece_puts_a_space_in_front() -> None:
    tokenizer = byte_fallback()
    model = lengthwise.wrap(tiny_model("llama", vocab_size=len(tokenizer)), tokenizer)
    for prompt in ("", "hel", "hello x", "\u65e5".encode()[:2]):
        law = model.bytes(prompt, tolerance=0).law()
        assert float(law.probs.sum()) + law.end == pytest.approx(1, abs=1e-9)


def test_what_is_refused(model: lengthwise.Model) -> None:
    for prompt, said in (("", "the prompt is empty"), ("t", "part of its first token"),
                         (b"ab\xff", "byte 2 is not UTF-8"), ("\ud800", "the prompt")):  # fmt: skip
        with pytest.raises(LengthwiseError, match=said):
            model.bytes(prompt)
    end = [merging().eos_token_id]
    assert model.bytes("", context=end).law().end < 1
    with pytest.raises(LengthwiseError, match="no tokens for filling in"):
        model.bytes("the cab", suffix="x")
    with pytest.raises(LengthwiseError, match="give suffix= too"):
        model.bytes("the cab", order="psm")
    with pytest.raises(LengthwiseError, match="allowed is 0 to 0.01"):
        model.bytes("the cab", tolerance=1)
    with pytest.raises(LengthwiseError, match="at least 1"):
        model.bytes("the cab and").generate(0)
    with pytest.raises(LengthwiseError, match="give a string or bytes"):
        model.bytes("the cab and").feed(5)  # type: ignore[arg-type]
    with pytest.raises(LengthwiseError, match="not UTF-8"):
        model.bytes("the cab and").feed(b"\x80")
    for recipe in ("superposed", "beam", "no_repeat_ngram", "kivi + length(min_new_tokens=4)"):
        with pytest.raises(Refused, match="decides what is written"):
            model.bytes("the cab and", recipe)


def test_tokenizers_that_do_not_tell_bytes() -> None:
    model = lengthwise.wrap(tiny_model("llama"), word_piece())
    with pytest.raises(LengthwiseError, match="its decoder is WordPiece"):
        model.bytes("ab")
    with pytest.raises(LengthwiseError, match="without a tokenizer"):
        lengthwise.wrap(tiny_model("llama")).bytes("ab")
