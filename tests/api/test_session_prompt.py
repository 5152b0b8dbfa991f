"""What prompts about a text begin with is found by its end, and is what the whole text shows."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from lengthwise.api import prompts
from lengthwise.api.session_prompt import TextSource
from tests.chat_models import FORGETFUL, TEMPLATE, chat_model

LONG = "Ada signed the contract on the third of May.\n" * 200
# A run of one letter is few tokens: what follows a text may change the last thousand letters of it.
LETTERS = tuple(("a" * 2**n, "a" * 2**n) for n in range(10))


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Characters of each text that is encoded."""
    found: list[int] = []
    encode = prompts._encode

    def counted(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> list[int]:
        found.append(len(text))
        return encode(tokenizer, text, special)

    monkeypatch.setattr(prompts, "_encode", counted)
    return found


@pytest.mark.parametrize("template", [TEMPLATE, FORGETFUL, None])
@pytest.mark.parametrize("end", ["", "\n", " ", "b", "<|endof", "<|endoftext|>", "é"])
def test_a_long_text_is_encoded_once(lengths: list[int], template: str | None, end: str) -> None:
    model = chat_model(template, (("b", "1"), ("Ċ", "Ċ"), ("Ġ", "Ċ")))
    source = TextSource(LONG + end)
    found, stable = source.prefix(model)
    assert sum(each >= len(LONG) for each in lengths) == 1
    ids, asked, more = source._changing(model)
    assert (found, stable) == (ids[: len(ids) - asked], len(ids) - more)
    assert stable <= len(found) < len(ids)


def test_all_of_it_is_encoded_where_its_end_does_not_settle_it(lengths: list[int]) -> None:
    model, source = chat_model(TEMPLATE, LETTERS), TextSource("a" * 5000)
    found, stable = source.prefix(model)
    assert sum(each >= 5000 for each in lengths) == 8
    ids, asked, more = source._changing(model)
    assert (found, stable) == (ids[: len(ids) - asked], len(ids) - more)


def test_a_session_of_a_long_text_is_asked_as_one_call_is() -> None:
    model, text = chat_model(), LONG[:3000]
    found = model.read(text).ask("Who?", max_new_tokens=4)
    message = [{"role": "user", "content": f"{text}\n\nWho?"}]
    assert found.token_ids == model.generate(message, max_new_tokens=4).token_ids
    assert found.metrics.reused_tokens > 3000
    assert not any("read again" in note for note in found.metrics.notes)
