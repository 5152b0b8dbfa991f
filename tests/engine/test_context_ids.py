"""Ids of a text as tensors: whatever is shown after whatever, they are that text's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from lengthwise.engine.context_ids import ContextIds
from lengthwise.engine.token_view import TokenView

CPU = torch.device("cpu")
TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=8)


@given(TEXTS)
def test_every_text_is_followed(texts: list[list[int]]) -> None:
    shown = ContextIds()
    for number, text in enumerate(texts):
        shown.follow(TokenView(text) if number % 2 else text, 0, CPU)
        assert shown.ids.tolist() == text and shown.ids.dtype == torch.int64
        assert shown.seen(5).nonzero()[:, 0].tolist() == sorted(set(text))


@given(st.lists(st.integers(0, 3), max_size=9), TEXTS)
def test_what_is_fixed_is_not_looked_at_again(prompt: list[int], ends: list[list[int]]) -> None:
    shown = ContextIds()
    for end in ends:
        shown.follow([*prompt, *end], len(prompt), CPU)
        assert shown.ids.tolist() == [*prompt, *end]
        assert shown.seen(4).nonzero()[:, 0].tolist() == sorted({*prompt, *end})
    # Another number of fixed tokens is another text.
    shown.follow([3] * 12, len(prompt) + 1, CPU)
    assert shown.ids.tolist() == [3] * 12 and shown.seen(4).tolist() == [False] * 3 + [True]


def test_a_token_of_no_vocabulary_is_refused_each_time() -> None:
    shown = ContextIds()
    shown.follow([1, 7], 0, CPU)
    for _ in range(2):
        with pytest.raises((IndexError, RuntimeError)):
            shown.seen(5)
    assert shown.seen(8).sum() == 2
