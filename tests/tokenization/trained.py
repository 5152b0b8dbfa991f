"""What tests of this folder share: texts drawn at random, and tokenizers of the library."""

from __future__ import annotations

import json
from random import Random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lengthwise.tokenization.trainers.patterns import cut_by, of_bytes

ALPHABETS = ("ab", "abc ", "a -=", "abcdefg  \n", "xyz 0123456789.,", "éa中 A: ")
"""Few letters, so that pairs come up again and tokens by several ways."""


def drawn_texts(random: Random, number: int = 8, longest: int = 60) -> list[str]:
    letters = random.choice(ALPHABETS)
    return [
        "".join(random.choice(letters) for _ in range(random.randint(0, longest)))
        for _ in range(number)
    ]


def by_library(texts: list[str], pattern: str, size: int, least: int = 0) -> Tokenizer:
    """What the trainer of `tokenizers` makes of texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cut_by(pattern)
    tokenizer.decoder = of_bytes()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=least,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def assert_text_is_no_end(tokenizer: Tokenizer, size: int, text: str) -> None:
    """Every id is a token of its own, merges make them in turn, and none makes the end token."""
    vocab = tokenizer.get_vocab()
    words = sorted(vocab, key=lambda word: vocab[word])
    assert len(words) == size and sorted(vocab.values()) == list(range(size))
    assert words[0] == "<|endoftext|>"
    made = ["".join(pair) for pair in merges_of(tokenizer)]
    assert list(dict.fromkeys(made)) == words[257:] and words[0] not in made
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert 0 not in ids and tokenizer.decode(ids) == text


def merges_of(tokenizer: Tokenizer) -> list[list[str]]:
    merges: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return merges
