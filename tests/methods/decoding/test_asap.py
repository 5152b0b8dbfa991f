"""Samples of a grammar converge to the model's own law over its texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.decoding.asap import Asap
from lengthwise.testing import decoders
from tests.methods.decoding.law_models import written_model
from tests.scripts import rows

PROMPT = "Letters:"


@pytest.fixture
def model() -> lengthwise.Model:
    return written_model()


@pytest.mark.slow
def test_it_converges_on_a_table(tmp_path: Path) -> None:
    """The card's figures: 0.508 at the start, then 0.28, 0.054 and 0.022."""
    found = rows(tmp_path, "decoding/asap", "asap", "--only", "A")
    assert [row["samples"] for row in found] == [0, 100, 500, 2000]
    distances = [row["total variation"] for row in found]
    assert distances[0] == pytest.approx(0.514, abs=1e-3)
    assert all(a < b for a, b in zip(distances[1:], (0.28, 0.054, 0.022), strict=True))
    assert all(row["in the language"] == 1 for row in found)
    rates = [row["rate of the root"] for row in found]
    share = found[0]["share of texts"]
    assert rates == sorted(rates, reverse=True) and share < rates[-1] < 1.03 * share


def draw(model: lengthwise.Model, recipe: str, seed: int, **more: float) -> lengthwise.Generation:
    return model.generate(PROMPT, recipe, temperature=1.0, seed=seed, max_new_tokens=8, **more)


def test_a_text_that_is_known_to_be_likely_in_vain_is_drawn_less(model) -> None:
    """ "ab" goes on as it likes; behind "b" almost nothing that the model says is allowed."""
    recipe = 'asap(regex="a[a-z]|b[\\\\x01]")'
    first = [draw(model, recipe, seed) for seed in range(40)]
    assert all(re.fullmatch("a[a-z]|b\x01", found.text) for found in first)
    shares = [found.metrics.figures["asap: share of texts in the language, at most"]
              for found in first]  # fmt: skip
    assert shares == sorted(shares, reverse=True) and shares[0] == 1 > shares[1]
    assert [found.metrics.figures["asap: samples before"] for found in first] == list(range(40))


def test_what_it_learned_is_the_exact_conditional(model) -> None:
    """Of a language of four texts each is drawn as often as the model says it."""
    recipe = 'asap(choice="ax|ay|bx|by")'
    for seed in range(60):
        draw(model, recipe, seed)
    prompt = model.encode(PROMPT)
    end = model.tokenizer.eos_token_id

    def log_prob(text: str) -> float:
        ids = [*prompt, *text.encode(), end]
        return float(model.score(ids)[-3:].sum())

    exact = torch.tensor([log_prob(text) for text in ("ax", "ay", "bx", "by")]).double()
    share = float(exact.exp().sum())
    found = draw(model, recipe, 999)
    at_most = found.metrics.figures["asap: share of texts in the language, at most"]
    assert at_most == pytest.approx(share, rel=1e-3)


def test_drafting_says_the_same(model) -> None:
    for seed in range(6):
        plain = draw(model, 'asap(regex="[ab]{5}", samples=0)', seed)
        drafted = draw(model, 'asap(regex="[ab]{5}", samples=0) + lookup', seed)
        assert plain.token_ids == drafted.token_ids


def test_other_prompts_and_temperatures_learn_apart(model) -> None:
    recipe = 'asap(regex="[ab]{3}")'
    asked = {"temperature": 1.0, "max_new_tokens": 8}
    before = "asap: samples before"
    assert model.generate("one", recipe, **asked).metrics.figures[before] == 0
    assert model.generate("one", recipe, **asked).metrics.figures[before] == 1
    assert model.generate("two", recipe, **asked).metrics.figures[before] == 0
    again = model.generate("one", recipe, **{**asked, "temperature": 0.5})
    assert again.metrics.figures[before] == 0
    rows = model.generate_batch(["one", "one"], recipe, seed=[5, 6], **asked)
    assert [row.metrics.figures[before] for row in rows] == [2, 2]
    assert model.generate("one", recipe, **asked).metrics.figures[before] == 4


def test_other_weights_learn_apart(model) -> None:
    recipe, before = 'asap(regex="[ab]{4}")', "asap: samples before"

    def samples() -> float:
        return model.generate("w", recipe, temperature=1.0, max_new_tokens=8).metrics.figures[
            before
        ]

    assert [samples(), samples()] == [0, 1]
    weight = model.adapted.model.model.norm.weight
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(1.5)
        assert samples() == 0
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert samples() == 2


def test_what_is_not_the_models_whole_law_is_refused(model) -> None:
    with pytest.raises(LengthwiseError, match="temperature=0 draws nothing"):
        model.generate(PROMPT, 'asap(regex="a")')
    for name, value in {"top_p": 0.9, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}.items():
        with pytest.raises(LengthwiseError, match=f"{name} would change it"):
            draw(model, 'asap(regex="a")', 0, **{name: value})
    with pytest.raises(RecipeError, match="asap needs a grammar"):
        model.plan("asap")


@pytest.mark.parametrize("check", [decoders.check_law_by_path, decoders.check_decoder_batch])
def test_laws_of_decoders(model, check) -> None:
    check(Asap, model.adapted)
