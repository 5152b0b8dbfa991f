"""The text of a path is the tokenizer's, however it was come to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.methods.decoding._shared import token_texts as module
from lengthwise.methods.decoding._shared.token_texts import BEFORE, TokenTexts
from lengthwise.tokenization.detokenise import decode
from tests.tiny_tokenizers import byte_fallback, byte_level, word_piece

KINDS = {"byte fallback": byte_fallback, "byte level": byte_level, "word pieces": word_piece}


def at_once(texts: TokenTexts, ids: list[int]) -> str:
    """The text of tokens behind others, in one piece."""
    tokenizer = texts._tokenizer
    before = tokenizer.encode(BEFORE, add_special_tokens=False)
    said = [token for token in ids if token not in set(tokenizer.all_special_ids)]
    start = len(decode(tokenizer, before, special=True))
    return decode(tokenizer, [*before, *said], special=True)[start:]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_runs_joined_are_the_text(kind: str, data: st.DataObject) -> None:
    tokenizer = KINDS[kind]()
    token = st.integers(0, len(tokenizer) - 1)
    path = data.draw(st.lists(token, max_size=40))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "RUN", data.draw(st.integers(1, 6)))
        texts = TokenTexts(tokenizer, len(tokenizer))
        for _ in range(4):
            assert texts.written(path) == at_once(texts, path)
            kept = data.draw(st.integers(0, len(path)))
            path = [*path[:kept], *data.draw(st.lists(token, max_size=12))]


def test_a_long_text_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    texts, decoded = TokenTexts(tokenizer, len(tokenizer)), []
    (letter,) = tokenizer.encode("a", add_special_tokens=False)
    path = [letter] * 5000
    assert texts.written(path) == "a" * 5000
    raw = module._raw
    monkeypatch.setattr(
        module, "_raw", lambda given, rows: (decoded.extend(map(len, rows)), raw(given, rows))[1]
    )
    for end in range(4990, 5010):
        assert texts.written(([*path, *path])[:end]) == "a" * end
    assert sum(decoded) <= 20 * 4 * module.RUN
