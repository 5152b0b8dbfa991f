"""USCD: examples are left out as the paper does, and a gated contrast is a law like any other."""

from pathlib import Path

import pytest
import torch

import lengthwise
from lengthwise.api.model import Model
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.decoding.uscd import USCD, Contrast, spread, without_examples
from lengthwise.plugin import Sampling
from lengthwise.testing.tiny import tiny_model, tokens
from tests.tiny_tokenizers import byte_fallback

NEW = 16
HUMAN = '''def longest(words):
    """Return the longest word.
    Empty lists give None.
    >>> longest([])

    >>> longest(["a", "bb"])
    'bb'
    """
'''
LAME = '''def longest(words):
    """Return the longest word.
    Empty lists give None.

    """
'''


@pytest.fixture(scope="module")
def model() -> Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


@pytest.fixture(scope="module")
def reader() -> Model:
    tokenizer = byte_fallback()
    return lengthwise.wrap(tiny_model("llama", vocab_size=len(tokenizer)), tokenizer)


def write(model: Model, recipe: str) -> lengthwise.Generation:
    return model.generate(tokens(40), recipe, max_new_tokens=NEW, stop_ids=[])


def test_examples_are_left_out_with_their_results() -> None:
    assert without_examples(HUMAN) == LAME
    assert without_examples("a\n>>> b\nc\n\nd\n") == "a\n\nd\n"
    assert without_examples("a\nInput: b\nOutput: c\n\nd", "Input:") == "a\n\nd"
    assert without_examples(LAME) == LAME


def test_spread_goes_from_nothing_to_one() -> None:
    assert spread(torch.full((50,), 1 / 50)) == pytest.approx(0, abs=1e-3)
    assert spread(torch.eye(50)[3]) == pytest.approx(1)
    law = torch.rand(50, generator=torch.Generator().manual_seed(0)).softmax(0)
    certain = torch.eye(50)[0].std(correction=0)
    assert spread(law) == pytest.approx(float(law.std(correction=0) / certain), rel=1e-3)


def test_a_contrast_is_that_of_the_equations(model: Model) -> None:
    adapted, prompt, written = model.adapted, tokens(40), tokens(5, 3)
    law = USCD(threshold=1, strength=0.7, cut=0.2, last=9).start_law(adapted)
    law.begin(_read(model, prompt), Sampling(), NEW, ())
    stock = adapted.model
    with torch.no_grad():
        good = stock(torch.tensor([[*prompt, *written]])).logits[0, -1].log_softmax(-1)
        lame = stock(torch.tensor([[*prompt[-9:], *written]])).logits[0, -1].log_softmax(-1)
    expected = (good + 0.7 * (good - lame)).masked_fill(
        good.exp() < 0.2 * good.exp().max(), float("-inf")
    )
    torch.testing.assert_close(law.process(good.clone(), written), expected, atol=1e-4, rtol=1e-4)


def _read(model: Model, prompt: list[int]) -> Sequence:
    sequence = Sequence(model.adapted)
    prefill(sequence, prompt)
    return sequence


def test_without_strength_or_uncertainty_it_is_greedy(model: Model) -> None:
    plain = write(model, "full")
    for options in ("strength=0", "threshold=0", "strength=0, threshold=1, cut=0.5"):
        assert write(model, f"uscd(last=8, {options})").token_ids == plain.token_ids
    contrasted = write(model, "uscd(last=8, threshold=1, strength=4)")
    assert contrasted.token_ids != plain.token_ids
    assert contrasted.metrics.figures["uscd: share of steps contrasted"] == 1
    assert contrasted.metrics.kv_bytes > plain.metrics.kv_bytes


def test_fewer_steps_are_contrasted_as_the_threshold_falls(model: Model) -> None:
    shares = [
        write(model, f"uscd(last=8, threshold={each})").metrics.figures[
            "uscd: share of steps contrasted"
        ]
        for each in (1, 0.2, 0.1, 0)
    ]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1 and shares[-1] == 0


@pytest.mark.parametrize("beside", ["lookup", "streaming(sinks=2, window=24)", "kivi(bits=4)"])
def test_it_goes_with_drafting_and_with_caches(model: Model, beside: str) -> None:
    found = write(model, f"{beside} + uscd(last=8, threshold=0.3)")
    if beside == "lookup":
        assert found.token_ids == write(model, "uscd(last=8, threshold=0.3)").token_ids
    assert found.metrics.figures["uscd: tokens read behind it"] > 0


def test_the_texts_of_a_beam_are_contrasted_each_for_itself(model: Model) -> None:
    found = write(model, "beam(width=3) + uscd(last=8, threshold=1)")
    assert len(found.token_ids) == NEW


def test_the_lame_prompt_of_a_text_and_of_a_file(reader: Model, tmp_path: Path) -> None:
    tokenizer = reader.tokenizer
    assert tokenizer is not None
    ids = list(tokenizer.encode(HUMAN, add_special_tokens=False))
    lame = USCD().lame_prompt(ids, reader.adapted)
    assert tokenizer.decode(lame) == tokenizer.decode(
        tokenizer.encode(LAME, add_special_tokens=False)
    )
    file = tmp_path / "lame.txt"
    file.write_text("no examples")
    assert USCD(lame=str(file)).lame_prompt(ids, reader.adapted) == tokenizer.encode("no examples")
    found = reader.generate(ids, "uscd(threshold=1)", max_new_tokens=4)
    assert found.metrics.figures["uscd: tokens of the lame prompt"] == len(lame)


def test_a_prompt_without_examples_is_said(reader: Model) -> None:
    found = reader.generate("nothing here", "uscd", max_new_tokens=4)
    assert any("no line of the prompt begins with '>>>'" in each for each in found.metrics.notes)
    assert found.token_ids == reader.generate("nothing here", max_new_tokens=4).token_ids


def test_what_cannot_be_is_refused(model: Model, reader: Model) -> None:
    with pytest.raises(Refused, match="came without a tokenizer"):
        model.plan("uscd")
    with pytest.raises(RecipeError, match="give one of them"):
        USCD(last=3, lame="x")
    with pytest.raises(RecipeError, match="begins every line"):
        USCD(drop="")
    with pytest.raises(LengthwiseError, match="missing"):
        reader.plan("uscd(lame=missing.txt)")


def test_a_prompt_alike_begins_no_second_reading(model: Model) -> None:
    law = Contrast(USCD(last=999))
    law.begin(_read(model, tokens(10)), Sampling(), NEW, ())
    assert law.held() == [] and law.notes
