"""One reply against the band of its target."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.answer_lengths import length_matches
from lengthwise.evaluation.scorers.lengths import word_count_match


@pytest.mark.parametrize(
    ("words", "target", "precise", "flexible"),
    [
        (20, "10", 1, 1), (20, "30", 0, 0), (60, "50", 1, 1), (90, "80", 1, 1), (65, "80", 0, 1),
        (800, "700", 0, 1), (800, ">800", 0, 0), (801, ">800", 1, 1),
    ],
)  # fmt: skip
def test_bands_of_the_card(words: int, target: str, precise: int, flexible: int) -> None:
    reply = "word " * words
    assert word_count_match(reply, [target]) == precise
    assert word_count_match(reply, [target], flexible=True) == flexible
    shares = length_matches([(target, reply)])[0]
    assert (shares.precise, shares.flexible) == (precise, flexible)


def test_a_length_token_is_no_word() -> None:
    assert word_count_match("[MLT:10]" + " word" * 20, ["10"]) == 1


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="length '40': allowed are 10, 30"):
        word_count_match("word", ["40"])
