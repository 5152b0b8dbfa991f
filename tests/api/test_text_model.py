"""A held model as prompting methods see it: places of tokens, what it says and has read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lengthwise.api.text_model import LocalText
from lengthwise.methods.prompts import AttentionModel, LogitModel, TokenModel
from lengthwise.testing.prompting import letters

TEXT = "Two words.\nAnd then some."


def test_it_is_a_model_with_logits() -> None:
    assert isinstance(LocalText(letters()), LogitModel)
    assert isinstance(LocalText(letters()), AttentionModel)
    assert isinstance(LocalText(letters()), TokenModel)


def test_spans_are_the_tokens_of_a_text() -> None:
    reader = LocalText(letters())
    assert [TEXT[a:b] for a, b in reader.spans(TEXT)] == list(TEXT)
    assert reader.count(TEXT) == len(TEXT) and reader.spans("") == []
    assert reader.tokens_read == 0


def test_without_offsets_spans_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = LocalText(letters())
    fast: Any = reader._tokenizer
    slow = SimpleNamespace(is_fast=False, encode=fast.encode, decode=fast.decode)
    monkeypatch.setattr(reader, "_tokenizer", slow)
    assert reader.spans(TEXT) == LocalText(letters()).spans(TEXT)


def test_what_a_question_attends_to_is_a_column_a_token_and_a_row_a_token_behind() -> None:
    model, reader = letters(), LocalText(letters())
    found = reader.regard(TEXT, "Who?")
    behind = model.encode("\n\nWho?\nAnswer:")
    assert found.text.shape == (len(behind), len(TEXT)) and reader.tokens_read == len(
        [*TEXT, *behind]
    )
    # The letters have neither a template nor a first token of their own.
    total = found.text.sum(1) + found.question
    assert torch.allclose(total, torch.ones(len(behind)), atol=1e-5)
    first = reader.regard(TEXT, "Who?", depth=0.5)
    assert not torch.allclose(first.text, found.text, atol=1e-3)


def test_ids_are_the_tokens_of_spans() -> None:
    reader = LocalText(letters())
    assert reader.ids(TEXT) == letters().encode(TEXT, special="text") and reader.ids("") == []


def test_what_is_begun_alike_is_read_once() -> None:
    model, reader = letters(), LocalText(letters())
    steps = reader.begin("Who?", "He")
    prompt = model.encode("Who?He")
    a, b, c = model.encode("abc")
    wanted = [[], [a], [a, b], [a, c], [b]]
    found = steps.after(wanted)
    for row, each in zip(found, wanted, strict=True):
        # What comes behind is judged by the whole text read at once.
        logs = LocalText(model).foretell("", "Who?He" + "abc"[:0], 1) if not each else None
        ids = [*prompt, *each]
        (after,) = model.score([*ids, c])[-1:]
        assert row[c] == pytest.approx(float(after), abs=1e-4)
        assert logs is None or torch.allclose(row, logs[0], atol=1e-4)
    assert reader.tokens_read == len(prompt) + 6
    more = steps.after([[a, b, c], []])
    # What was read for a beginning is not read again.
    assert reader.tokens_read == len(prompt) + 7
    assert more[0, a] == pytest.approx(float(model.score([*prompt, a, b, c, a])[-1]), abs=1e-4)
    assert torch.equal(more[1], found[0])


def test_losses_are_those_of_score() -> None:
    model, reader = letters(), LocalText(letters())
    ids = model.encode(TEXT)
    found = reader.losses(TEXT)
    assert found[0] == 0 and len(found) == len(ids) == reader.tokens_read
    assert torch.allclose(found[1:], -model.score(ids), atol=1e-5)
    assert reader.losses("").tolist() == [] and reader.losses("T").tolist() == [0.0]


def test_what_it_foretells_is_what_it_writes() -> None:
    model, reader = letters(), LocalText(letters())
    logs = reader.foretell(TEXT, "Who?", 4, plain=True)
    ids = model.encode(f"{TEXT}\nWho?")
    said = model.generate(ids, max_new_tokens=4, stop_ids=[]).token_ids
    assert logs.shape == (4, model.adapted.vocab_size) and logs.argmax(-1).tolist() == said
    assert torch.allclose(logs.exp().sum(-1), torch.ones(4), atol=1e-5)
    assert reader.tokens_read == len(ids)
    framed = reader.foretell(TEXT, "Who?", 1)
    assert not torch.allclose(framed, logs[:1], atol=1e-3)


def test_it_writes_a_few_tokens_and_counts_what_it_read() -> None:
    reader = LocalText(letters())
    first = reader.write(TEXT, "Who?", 5)
    read = reader.tokens_read
    assert read > len(TEXT) and len(first) <= 5
    assert reader.write(TEXT, "Who?", 5) == first and reader.tokens_read == 2 * read


def test_an_answer_comes_in_pieces_and_is_their_text() -> None:
    pieces: list[str] = []
    reader = LocalText(letters())
    said = reader.write(TEXT, "Who?", 12, stream=pieces.append)
    assert "".join(pieces).strip() == said == LocalText(letters()).write(TEXT, "Who?", 12)
    assert len(pieces) > 1


def test_without_a_text_the_question_stands_alone() -> None:
    model, reader = letters(), LocalText(letters())
    said = reader.write("", "Who?", 6)
    assert said == model.generate(model.encode("Who?"), max_new_tokens=6).text.strip()
    assert reader.tokens_read == len("Who?")
