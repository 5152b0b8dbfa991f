"""Tokens that nothing yields, and tokens that look untrained."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import Tokenizer

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.opened import Fast
from lengthwise.tokenization.report.reach import glitches, require_own, unreachable
from tests.tiny_tokenizers import byte_fallback, byte_level


def with_words(merges: list[list[str]], *words: str) -> Fast:
    """GPT-2's kind with words of its own. merges: of them."""
    made = json.loads(byte_level().backend_tokenizer.to_str())
    vocabulary = made["model"]["vocab"]
    for word in words:
        vocabulary[word] = len(vocabulary)
    made["model"]["merges"] = merges
    return Fast("mine", Tokenizer.from_str(json.dumps(made)), None)


def test_merges_that_do_not_end_in_a_token_and_text_that_is_cut_before() -> None:
    # "ab" is merged; nothing merges into "xyz"; "a.b" is merged but cut at the mark before.
    found = with_words([["a", "b"], [".", "b"], ["a", ".b"]], "ab", "xyz", ".b", "a.b")
    reach = unreachable(found)
    vocabulary = {each: at for at, each in enumerate(found.spelled)}
    why = {token: cause for token, _, cause in reach.examples}
    assert vocabulary[b"ab"] not in reach.tokens and vocabulary[b"xyz"] in reach.tokens
    assert vocabulary[b"a.b"] in reach.tokens
    assert reach.causes["split"] >= 1 and reach.causes["merges"] >= 1
    assert set(why.values()) <= {"split", "merges", "bytes", "twin"}
    # 0xC0, 0xC1 and 0xF5 to 0xFF are in no UTF-8 text.
    assert reach.causes["bytes"] == 13


def test_a_byte_beside_its_letter_is_a_twin() -> None:
    reach = unreachable(Fast("llama", byte_fallback().backend_tokenizer, None))
    spelled = byte_fallback().convert_tokens_to_ids("<0x78>")
    assert spelled in reach.tokens and reach.causes["twin"] >= 1


def test_glitch_candidates_are_near_what_nothing_yields() -> None:
    found = with_words([["a", "b"]], "ab", "xyz")
    reach = unreachable(found)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(found.size, 16))
    table[list(reach.tokens)] = 3.0
    suspect = found.spelled.index(b"q")
    table[suspect] = 3.01
    counts = np.ones(found.size, dtype=np.int64)
    counts[suspect] = 0
    result = glitches(found, counts, reach, table)
    assert result.never_used == 1 and result.candidates[0][:2] == (suspect, "q")
    by_norm = glitches(found, counts, None, np.ones_like(table) * np.arange(found.size)[:, None])
    assert by_norm.by.startswith("the smallest norm") and "a weak sign" in by_norm.by
    assert "weak" not in result.by
    assert glitches(found, counts).candidates == ()


def test_a_tokenizer_that_is_not_the_models_is_refused() -> None:
    mine, longer = with_words([], "ab"), with_words([], "ab", "cd")
    require_own(mine, mine)
    # A model may have been given tokens more; what the report knows is the same.
    require_own(mine, longer)
    with pytest.raises(TokenizerError, match="1 token of .* differ, such as .*'ab'"):
        require_own(mine, with_words([], "cd"))
    with pytest.raises(TokenizerError, match="1 token of .*'cd'.*the model's own"):
        require_own(longer, mine)


def test_embeddings_of_another_model_are_refused() -> None:
    found = Fast("mine", byte_level().backend_tokenizer, None)
    with pytest.raises(TokenizerError, match="embeddings"):
        glitches(found, np.ones(found.size, dtype=np.int64), None, np.ones((9, 4)))
