"""Several models as one: a mean of laws, whatever their tokenizers."""

from __future__ import annotations

import numpy as np
import pytest

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.testing.tiny import tiny_model
from tests.api.byte_models import byte_model
from tests.tiny_tokenizers import byte_fallback


def _two() -> tuple[lengthwise.Model, lengthwise.Model]:
    tokenizer = byte_fallback()
    other = lengthwise.wrap(tiny_model("llama", vocab_size=len(tokenizer)), tokenizer)
    return byte_model(), other


def test_mean_of_two_tokenizers() -> None:
    one, other = (model.bytes("hello th") for model in _two())
    both = lengthwise.ByteEnsemble([one, other], [3, 1])
    wanted = 0.75 * one.law().probs + 0.25 * other.law().probs
    np.testing.assert_allclose(both.law().probs, wanted, atol=1e-12)
    assert both.law().probs.sum() + both.law().end == pytest.approx(1)
    text = "e world"
    assert both.logprob(text) == both.fork().feed(text)
    written = both.generate(12)
    assert written.drawn == len(written.data) and not written.tokens


def test_all_weight_on_one_is_that_one() -> None:
    one, other = (model.bytes("hello th") for model in _two())
    both = lengthwise.ByteEnsemble([one, other], [1, 0])
    assert both.logprob("e cab") == pytest.approx(one.logprob("e cab"), abs=1e-12)


def test_what_is_refused() -> None:
    text = byte_model().bytes("hello th")
    cases = {
        "no models": lambda: lengthwise.ByteEnsemble([]),
        "given twice": lambda: lengthwise.ByteEnsemble([text, text]),
        "2 weights for 1": lambda: lengthwise.ByteEnsemble([text], [1, 1]),
        "allowed are numbers from 0": lambda: lengthwise.ByteEnsemble([text], [-1]),
        "all weights are 0": lambda: lengthwise.ByteEnsemble([text], [0]),
        "one is a str": lambda: lengthwise.ByteEnsemble(["a"]),  # type: ignore[list-item]
    }
    for said, made in cases.items():
        with pytest.raises(LengthwiseError, match=said):
            made()
