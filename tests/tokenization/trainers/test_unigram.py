"""unigram: pieces, all bytes, and a dependency that is named where it is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.byte_level import ALPHABET
from lengthwise.tokenization.trainers.unigram import Unigram
from tests.tokenization.trainers.small_corpus import texts


def test_it_has_the_size_asked_for_and_every_byte(tmp_path: Path) -> None:
    tokenizer = Unigram().train(lambda: iter(texts()), 320, tmp_path, lambda what, share: None)
    pieces = dict(json.loads(tokenizer.to_str())["model"]["vocab"])
    assert len(pieces) == 320 and pieces.keys() >= set(ALPHABET)
    assert list(pieces.values()) == sorted(pieces.values(), reverse=True)
    # What occurs nowhere is taken where there is nothing else.
    assert min(pieces.values()) == pieces[ALPHABET[0xFF]]
    # Whole words are pieces, also those that stand in no other word.
    assert tokenizer.encode(" evlerimizden").tokens == ["Ġevlerimizden"]
    assert max(map(len, pieces)) <= 16


def test_without_sentencepiece_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(TokenizerError, match=r"pip install 'lengthwise\[tokenizers\]'"):
        Unigram().train(lambda: iter(texts()), 320, tmp_path, lambda what, share: None)
