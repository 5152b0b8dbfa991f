"""Chunks of an answer, piece by piece."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lengthwise.engine.logprobs import TokenLogprob
from lengthwise.recipes import parse
from lengthwise.serving.answers import Answer
from lengthwise.serving.engine import Piece
from tests.chat_models import chat_model


@pytest.mark.parametrize("first", ["", "c"])
def test_an_echo_is_told_even_where_the_first_token_ends_the_text(first: str) -> None:
    model = chat_model()
    ids = model.encode("ab")
    answer = Answer(model, "tiny", parse("full"), ["ab"], 1, logprobs=True)
    prompt = [TokenLogprob(ids[0], math.nan), TokenLogprob(ids[1], -1.0)]
    said = [TokenLogprob(token, -2.0) for token in (model.encode(first) if first else [])]
    done = model.generate("ab", max_new_tokens=1)
    assert answer.opening() == []
    chunks = answer.chunks(0, Piece(first, [each.token for each in said], said, done, prompt))
    (content,), (last,) = (chunk["choices"] for chunk in chunks)
    assert content["text"] == f"ab{first}" and content["finish_reason"] is None
    logs: dict[str, Any] = content["logprobs"]
    assert logs["tokens"] == list(f"ab{first}")
    assert logs["token_logprobs"] == [None, -1.0, *[-2.0] * len(first)]
    assert logs["text_offset"] == list(range(2 + len(first)))
    assert last["text"] == "" and last["finish_reason"] == "length"


def test_without_log_probabilities_a_piece_that_says_nothing_is_no_chunk() -> None:
    model = chat_model()
    answer = Answer(model, "tiny", parse("full"), ["ab"], 1, logprobs=False)
    (chunk,) = answer.opening()
    assert chunk["choices"][0]["text"] == "ab"
    assert answer.chunks(0, Piece("", [5], [])) == []
