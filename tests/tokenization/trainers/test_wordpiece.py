"""wordpiece: the longest match, pieces within a word apart, and no unknown word."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lengthwise.tokenization.token_bytes import byte_vocabulary
from lengthwise.tokenization.trainers.byte_level import ALPHABET
from lengthwise.tokenization.trainers.wordpiece import LONGEST_WORD, WITHIN, WordPiece
from tests.tokenization.trainers.small_corpus import texts


def _trained(corpus: list[str], size: int, work: Path) -> Tokenizer:
    return WordPiece().train(lambda: iter(corpus), size, work, lambda what, share: None)


def test_it_learns_what_the_library_learns_under_this_name(tmp_path: Path) -> None:
    # Counts without a tie: the library breaks those by the order of a hash.
    words = {"abc": 50, "abd": 23, "xbc": 11, "ab": 5}
    corpus = ["\n".join(word for word, count in words.items() for _ in range(count))]
    stock = Tokenizer(models.WordPiece())
    stock.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    stock.train_from_iterator(corpus, trainers.WordPieceTrainer(
        vocab_size=12, min_frequency=2, continuing_subword_prefix=WITHIN, show_progress=False,
    ))  # fmt: skip
    theirs = {each for each in stock.get_vocab() if len(each.removeprefix(WITHIN)) > 1}
    ours = _trained(corpus, 512 + len(theirs), tmp_path).get_vocab()
    assert {each for each in ours if len(each.removeprefix(WITHIN)) > 1} == theirs
    assert theirs >= {f"a{WITHIN}b".replace(WITHIN, ""), "abc"}


def test_the_longest_piece_is_taken_at_each_place(tmp_path: Path) -> None:
    tokenizer = _trained(texts(), 900, tmp_path)
    vocabulary = tokenizer.get_vocab()
    for word in (" houses", " riverbed", " evlerimizdeyiz"):
        rest = word.replace(" ", "Ġ")
        place = ""
        for token in tokenizer.encode(word).tokens:
            fits = [
                place + rest[:end] for end in range(1, len(rest) + 1)
                if place + rest[:end] in vocabulary
            ]  # fmt: skip
            assert token == fits[-1]
            rest, place = rest[len(token.removeprefix(WITHIN)) :], WITHIN


def test_every_byte_has_both_forms_and_long_words_are_cut(tmp_path: Path) -> None:
    tokenizer = _trained(texts(), 700, tmp_path)
    vocabulary = tokenizer.get_vocab()
    assert all(letter in vocabulary and WITHIN + letter in vocabulary for letter in ALPHABET)
    word = "q" * (2 * LONGEST_WORD)
    assert sum(not token.startswith(WITHIN) for token in tokenizer.encode(word).tokens) == 2


def test_the_bytes_of_its_tokens_are_told(tmp_path: Path) -> None:
    tokenizer = _trained(texts(), 700, tmp_path)
    spelled = byte_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    text = "evlerimizden 東京 riverbed"
    assert spelled.text(tokenizer.encode(text).ids) == text.encode()
