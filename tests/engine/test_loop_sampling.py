"""What may be asked of sampling, and that whatever is not refused has a law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError

LOGITS = torch.tensor([1.0, 2.5, -3.0, 2.0, 0.5])


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"temperature": 2}, {"temperature": 2.0}),
        ({"temperature": 1.0, "repetition_penalty": 2}, {"repetition_penalty": 2.0}),
        ({"temperature": 1.0, "top_k": 2.0}, {"top_k": 2}),
    ],
)
def test_whole_numbers_may_be_written_either_way(
    given: dict[str, Any], same: dict[str, Any]
) -> None:
    found = Sampler(Sampling(**given)).probs(LOGITS, [1, 3])
    expected = Sampler(Sampling(**{"temperature": 1.0, **same})).probs(LOGITS, [1, 3])
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({"temperature": -0.1}, "allowed is 0 to inf"),
        ({"temperature": 1e-40}, "allowed is 0, which is greedy, or 1e-30 up"),
        ({"top_k": 2.5}, "allowed are whole numbers"),
        ({"top_p": 1.5}, "allowed is 0 to 1"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_what_is_allowed(
    given: dict[str, Any], allowed: str
) -> None:
    with pytest.raises(LengthwiseError, match=allowed):
        Sampling(**given)


@pytest.mark.filterwarnings("error")
def test_small_numbers_of_numpy_are_taken_without_a_warning() -> None:
    for kind in (np.float16, np.float32):
        assert Sampling(temperature=kind(0.5)).temperature == 0.5
        with pytest.raises(LengthwiseError, match="finite number"):
            Sampling(temperature=kind("inf"))


def test_the_least_temperature_is_one_hot_at_the_likeliest_token() -> None:
    probs = Sampler(Sampling(temperature=1e-30)).probs(100 * LOGITS, ())
    assert probs.tolist() == [0, 1, 0, 0, 0]
