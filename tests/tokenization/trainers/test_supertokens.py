"""Supertokens: chunks of random length, and tokens over words in one run."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, strategies as st
from tokenizers import Tokenizer, models, trainers

from lengthwise.documents.files import read_document
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.pieces import joined
from lengthwise.tokenization.trainers import supertokens as module
from lengthwise.tokenization.trainers.merges import BYTES, LETTERS
from lengthwise.tokenization.trainers.supertokens import Supertokens, cut
from tests.tokenization.trained import assert_text_is_no_end, merges_of


def _train(kind: Supertokens, texts: list[str], size: int = 1_500) -> Tokenizer:
    with TemporaryDirectory() as work:
        return kind.train(lambda: iter(texts), size, Path(work), lambda what, share: None)


def _chunks(texts: list[str], seed: int = 0) -> list[list[int]]:
    """Chunks of texts, as tokens of bytes."""
    data, bounds = joined([text.encode() for text in texts])
    tokens = cut(data, bounds, np.random.default_rng(seed))
    return [part.tolist()[:-1] for part in np.split(tokens, np.flatnonzero(tokens == -1) + 1)[:-1]]


def test_chunks_are_the_text_in_lengths_of_the_bell() -> None:
    found = _chunks(["x" * 200_000])
    sizes = [len(chunk) for chunk in found]
    assert sum(sizes) == 200_000 and min(sizes[:-1]) == 4 and max(sizes) == 23
    share = sum(10 <= size <= 15 for size in sizes) / len(sizes)
    assert share == pytest.approx((0.171 + 0.185 + 0.171) / 1.1, abs=0.01)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1))
def test_chunks_end_with_documents_and_hold_whole_characters(texts: list[str]) -> None:
    found = [bytes(BYTES[token] for token in chunk).decode() for chunk in _chunks(texts)]
    assert all(1 <= len(chunk) <= 23 for chunk in found)
    for text in texts:
        while text:
            assert text.startswith(found[0])
            text = text[len(found.pop(0)) :]
    assert not found


@pytest.mark.parametrize("longest, least", [(30, 2), (4, 1), (3, 3), (7, 0)])
def test_merges_are_the_librarys_of_the_same_chunks(longest: int, least: int) -> None:
    texts = read_document().text[:60_000].split("\n\n") + ["aaaaaaa" * 9, "aaaa bbbb " * 20]
    found = _train(Supertokens(longest=longest, min_frequency=least), texts, 700)
    wanted = Tokenizer(models.BPE())
    # Chunks as words, so that it has no say in what is cut.
    found_in = _chunks([text for text in texts if text])
    wanted.train_from_iterator(
        ["".join(LETTERS[token] for token in chunk) for chunk in found_in],
        trainers.BpeTrainer(
            vocab_size=700, min_frequency=least, special_tokens=["<|endoftext|>"],
            initial_alphabet=LETTERS, max_token_length=longest, show_progress=False,
        ),
    )  # fmt: skip
    assert merges_of(found) == merges_of(wanted)
    assert found.get_vocab() == wanted.get_vocab()


@pytest.mark.parametrize("mark", ["<|endoftext|>", "<|endoftext|>\n\n", "<|endof text|>"])
def test_an_end_token_in_the_corpus_is_text(mark: str) -> None:
    texts = [part + mark for part in read_document().text[:60_000].split("\n\n")]
    found = _train(Supertokens(), texts, 700)
    assert_text_is_no_end(found, 700, f"so{mark} it goes")
    assert max(len(word) for word in found.get_vocab() if word.startswith("<|endof")) >= 8


def test_a_run_goes_on_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = read_document().text[:60_000].split("\n\n")
    whole = Supertokens().train(lambda: iter(texts), 600, tmp_path / ".", lambda *_: None)
    assert [path.suffix for path in tmp_path.glob("chunks-*")] == [".npz"]
    monkeypatch.setattr(module, "cut", None)
    again = Supertokens().train(lambda: iter(texts), 600, tmp_path, lambda *_: None)
    assert again.to_str() == whole.to_str()


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
