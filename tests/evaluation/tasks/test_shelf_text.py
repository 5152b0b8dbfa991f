"""The text of the shelf: what follows is the document's own, and all of it fits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.shelf_text import DEPTHS, shelf_text
from tests.evaluation.shelf_runs import FOLLOW, LENGTH, TEXT
from tests.tiny_tokenizers import byte_level


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_level()


@pytest.fixture(scope="module")
def ids(tokenizer: Any) -> list[int]:
    return tokenizer.encode(TEXT, add_special_tokens=False)


def test_the_continuation_is_what_the_document_says_next(tokenizer: Any, ids: list[int]) -> None:
    text = shelf_text("log", ids, tokenizer, LENGTH, FOLLOW)
    said, after = tokenizer.decode(list(text.context)), tokenizer.decode(list(text.continuation))
    assert said[-20:] + after in TEXT
    assert len(text.continuation) == FOLLOW
    longest = max(len(probe.suffix) + len(probe.target) for probe in text.probes)
    assert len(text.context) + longest + FOLLOW == LENGTH


def test_every_answer_stands_in_the_context(tokenizer: Any, ids: list[int]) -> None:
    text = shelf_text("log", ids, tokenizer, LENGTH, FOLLOW)
    said = tokenizer.decode(list(text.context))
    assert [probe.name for probe in text.probes] == ["copy", *(f"needle@{d:g}" for d in DEPTHS)]
    assert all(probe.answer in said for probe in text.probes)


def test_json_is_what_another_library_needs(tokenizer: Any, ids: list[int]) -> None:
    text = shelf_text("log", ids, tokenizer, LENGTH, FOLLOW)
    found = json.loads(text.to_json())
    assert tuple(found["context"]) == text.context and found["digest"] == text.digest
    assert {"name", "suffix", "target", "skip", "depth"} <= set(found["probes"][0])


def test_another_text_has_another_digest(tokenizer: Any, ids: list[int]) -> None:
    one = shelf_text("log", ids, tokenizer, LENGTH, FOLLOW)
    assert one.digest == shelf_text("other", ids, tokenizer, LENGTH, FOLLOW).digest
    assert one.digest != shelf_text("log", ids, tokenizer, LENGTH, FOLLOW - 1).digest


def test_what_does_not_fit_is_refused(tokenizer: Any, ids: list[int]) -> None:
    with pytest.raises(LengthwiseError, match="leave nothing to read"):
        shelf_text("log", ids, tokenizer, 64, 64)
    with pytest.raises(LengthwiseError, match="too short for the probes"):
        shelf_text("log", ids, tokenizer, 300, 8)
    with pytest.raises(DocumentError, match="give a longer document"):
        shelf_text("log", ids[:600], tokenizer, LENGTH, FOLLOW)
    room = len(shelf_text("log", ids, tokenizer, LENGTH, FOLLOW).context)
    with pytest.raises(DocumentError, match="give a longer document"):
        shelf_text("log", ids[: room - 560], tokenizer, LENGTH, FOLLOW)
