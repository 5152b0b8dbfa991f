"""Merges are those of the trainer of `tokenizers`, however they come about."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.documents.files import read_document
from lengthwise.tokenization.fast_bpe import BytePairs
from lengthwise.tokenization.pieces import Cutter, joined
from lengthwise.tokenization.trainers import merges as module
from lengthwise.tokenization.trainers.merges import Learner, Rails, Tokens
from lengthwise.tokenization.trainers.patterns import SUPERWORDS, WORDS
from lengthwise.tokenization.trainers.stages import made_tokenizer, token_bytes
from lengthwise.tokenization.trainers.word_counts import WordCounts
from tests.tokenization.trained import by_library, drawn_texts, merges_of

END = "<|endoftext|>"


def _counted(texts: list[str], pattern: str) -> WordCounts:
    data, bounds = joined([text.encode() for text in texts])
    counts = WordCounts()
    counts.add(data, Cutter(pattern).ends(data, bounds)[0])
    return counts


def _learner(texts: list[str], pattern: str, size: int, least: int = 0) -> Learner:
    tokens, weights = _counted(texts, pattern).laid_out()
    return Learner(tokens, size - 1, weights, least=least)


def _quiet(share: float) -> None:
    assert 0 <= share <= 1


def _same(texts: list[str], pattern: str, size: int, least: int = 0) -> None:
    wanted = by_library(texts, pattern, size, least)
    merges = _learner(texts, pattern, size, least).learn(_quiet)
    found = made_tokenizer(merges, pattern, END)
    assert merges_of(found) == merges_of(wanted), (texts, size, least)


@pytest.mark.parametrize("pattern", [WORDS, SUPERWORDS, "", " ?[^ ]+"])
@pytest.mark.parametrize("least", [0, 2, 3])
def test_merges_are_the_librarys(pattern: str, least: int) -> None:
    random = Random(least)
    for _ in range(25):
        _same(drawn_texts(random), pattern, random.randint(257, 400), least)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab "), max_size=5), st.integers(257, 300), st.integers(0, 3))
def test_merges_of_any_texts_are_the_librarys(texts: list[str], size: int, least: int) -> None:
    _same(texts, SUPERWORDS, size, least)


@pytest.mark.parametrize("pattern", [WORDS, SUPERWORDS])
def test_merges_and_vocabulary_of_a_real_text_are_the_librarys(pattern: str) -> None:
    texts = read_document().text[:300_000].split("\n\n")
    wanted = by_library(texts, pattern, 3_000)
    merges = _learner(texts, pattern, 3_000).learn(_quiet)
    found = made_tokenizer(merges, pattern, END)
    assert merges_of(found) == merges_of(wanted)
    assert found.get_vocab() == wanted.get_vocab()


def test_pairs_counted_anew_at_every_step_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REACH", 1)
    monkeypatch.setattr(module, "_STEP", 1)
    random = Random(9)
    for _ in range(20):
        _same(drawn_texts(random), SUPERWORDS, random.randint(257, 330))


def test_words_are_counted_as_by_hand() -> None:
    texts = ["one two one", "two  one"] * 3
    counts = _counted(texts, " ?[^ ]+")
    assert counts.counter() == Counter({b"one": 3, b" two": 3, b" one": 6, b"two": 3, b" ": 3})


def test_merges_that_were_there_stay_first_and_come_up_again() -> None:
    """Learning in two runs over one array of places is learning in one."""
    texts = read_document().text[:100_000].split("\n\n")
    whole = _learner(texts, SUPERWORDS, 1_200, 2).learn(_quiet)
    first = _learner(texts, SUPERWORDS, 700, 2).learn(_quiet)
    assert whole[: len(first)].tolist() == first.tolist()
    tokens = _laid_out(texts, first)
    second = Learner(tokens, 1_199, before=first, least=2).learn(_quiet)
    assert np.concatenate([first, second]).tolist() == whole.tolist()


def _laid_out(texts: list[str], merges: Tokens) -> Tokens:
    spelled, made = token_bytes(merges)
    data, bounds = joined([text.encode() for text in texts])
    pairs = BytePairs(spelled, merges, made)
    tokens, _ = pairs.encode(data, *Cutter(SUPERWORDS).ends(data, bounds), apart=True)
    return np.concatenate([np.full(1, -1, np.int32), tokens])


def test_rails_keep_pairs_from_merging() -> None:
    texts = ["ab: cd ef gh ij kl"] * 20
    tokens, weights = _counted(texts, "").laid_out()
    rails = Rails(most_words=2, past_colon=False)
    merges = Learner(tokens, 400, weights, rails=rails).learn(_quiet)
    spelled, _ = token_bytes(merges)
    assert len(merges) > 5
    assert max(len(word.split()) for word in spelled) == 2
    assert not any(b": " in word for word in spelled)
    free = Learner(*_freely(texts)).learn(_quiet)
    assert max(len(word.split()) for word in token_bytes(free)[0]) == 6


def _freely(texts: list[str]) -> tuple[Tokens, int, Tokens]:
    tokens, weights = _counted(texts, "").laid_out()
    return tokens, 400, weights


@pytest.mark.parametrize("rounds", [1, 3, 17])
def test_a_learner_goes_on_from_its_file(
    rounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROUND", 10)
    texts = ["aaaa aa abab -=-= aaaa====", *read_document().text[:20_000].split("\n")]
    whole = _learner(texts, SUPERWORDS, 800).learn(_quiet)
    path = tmp_path / "merges.npz"
    stopped = 0

    def stops(share: float) -> None:
        nonlocal stopped
        stopped += 1
        if stopped == rounds:
            raise KeyboardInterrupt

    learner = _learner(texts, SUPERWORDS, 800)
    with pytest.raises(KeyboardInterrupt):
        learner.learn(stops)
    learner.save(path)
    other = Learner(np.full(1, -1, np.int32), 799)
    other.resume(path)
    assert other.learn(_quiet, keep=path).tolist() == whole.tolist()
    again = Learner(np.full(1, -1, np.int32), 799)
    again.resume(path)
    assert again.learn(_quiet).tolist() == whole.tolist()
