"""Supertokens: chunks of random length, and tokens over words in one run."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from lengthwise.documents.files import read_document
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.supertokens import Supertokens, chunks


def _train(kind: Supertokens, texts: list[str], size: int = 1_500) -> Tokenizer:
    return kind.train(lambda: iter(texts), size, Path(), lambda what, share: None)


def test_chunks_are_the_text_in_lengths_of_the_bell() -> None:
    text = "x" * 200_000
    found = chunks(text, Random(0))
    lengths = [len(chunk) for chunk in found[:-1]]
    assert "".join(found) == text
    assert min(lengths) == 4 and max(lengths) == 23
    share = sum(10 <= length <= 15 for length in lengths) / len(lengths)
    assert share == pytest.approx((0.171 + 0.185 + 0.171) / 1.1, abs=0.01)


def test_tokens_reach_over_words_and_are_the_same_again() -> None:
    texts = read_document().text[:200_000].split("\n\n")
    found = _train(Supertokens(), texts)
    assert any("Ġ" in word[1:-1] for word in found.get_vocab())
    assert max(map(len, (w for w in found.get_vocab() if not w.startswith("<|")))) <= 30
    assert found.to_str() == _train(Supertokens(), texts).to_str()
    assert found.to_str() != _train(Supertokens(seed=1), texts).to_str()
    text = "Größe  of the\n12345 \U0001f600"
    assert found.decode(found.encode(text).ids) == text


@pytest.mark.parametrize("texts, size, why", [
    (["ab ab"], 256, "size 256 is too small"),
    ([], 300, "nothing can be learned"),
    (["a"], 300, "nothing can be learned"),
])  # fmt: skip
def test_bad_input_is_one_clear_line(texts: list[str], size: int, why: str) -> None:
    with pytest.raises(TokenizerError, match=why):
        _train(Supertokens(), texts, size)
