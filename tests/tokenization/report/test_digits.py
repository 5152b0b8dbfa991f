"""How numbers are cut, by tokenizers that are made to cut them so."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from lengthwise.tokenization.opened import Fast
from lengthwise.tokenization.report.digits import from_left, measure_digits

LEFT, RIGHT = r"\d{1,3}", r"\d{1,3}(?=(?:\d{3})*(?:\D|$))"


def of_groups(pattern: str) -> Fast:
    """Every number below 1,000 is a token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in "0123456789" for b in "0123456789"]
    merges += [(a + b, c) for a, b in merges for c in "0123456789"]
    words = dict.fromkeys([*letters, *(a + b for a, b in merges)])
    tokenizer = Tokenizer(
        models.BPE({word: at for at, word in enumerate(words)}, merges, ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    return Fast("groups", tokenizer, None)


@pytest.mark.parametrize(
    ("pattern", "direction", "example"),
    [
        (LEFT, "from the left", ("123", "456", "7")),
        (RIGHT, "from the right", ("1", "234", "567")),
        (r"\d", "single", tuple("1234567")),
    ],
)
def test_directions(pattern: str, direction: str, example: tuple[str, ...]) -> None:
    found = measure_digits(of_groups(pattern))
    assert (found.direction, found.example) == (direction, example)


def test_groups_of_the_card() -> None:
    assert from_left(7, 3) == [3, 3, 1] and from_left(7, 3)[::-1] == [1, 3, 3]
    # One more digit moves every group that is cut from the left.
    assert from_left(8, 3) == [3, 3, 2] and from_left(9, 3) == from_left(9, 3)[::-1]
