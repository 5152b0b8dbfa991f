"""bpe: what the library trains, and numbers by direction."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from lengthwise.tokenization.trainers.bpe import Bpe
from lengthwise.tokenization.trainers.patterns import WORDS
from tests.tokenization.trainers.small_corpus import texts


def _trained(kind: Bpe, size: int, work: Path) -> Tokenizer:
    return kind.train(lambda: iter(texts()), size, work, lambda what, share: None)


def test_it_is_what_the_library_trains(tmp_path: Path) -> None:
    stock = Tokenizer(models.BPE())
    stock.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    stock.train_from_iterator(texts(), trainers.BpeTrainer(
        vocab_size=500, min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ))  # fmt: skip
    ours = json.loads(_trained(Bpe(), 500, tmp_path).to_str())["model"]
    theirs = json.loads(stock.to_str())["model"]
    assert ours["merges"] == theirs["merges"] and ours["merges"]
    assert ours["vocab"] == theirs["vocab"]


def test_no_token_is_longer_than_said(tmp_path: Path) -> None:
    for longest in (2, 3, 5):
        vocabulary = _trained(Bpe(longest=longest), 600, tmp_path).get_vocab()
        assert max(map(len, vocabulary)) == longest


def test_groups_from_the_right_share_tokens(tmp_path: Path) -> None:
    tokenizer = _trained(Bpe(digits="r2l"), 600, tmp_path)
    # "000" ends 125000 of the corpus.
    assert tokenizer.encode("125000").tokens[-1] == "000"
    assert "000" in tokenizer.encode("1125000").tokens
