"""A tiny model with a tokenizer of bytes that merges, and one that fills in."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import lengthwise
from lengthwise.testing.tiny import tiny_model

MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "t"), ("a", "b"), ("ab", "a"), ("Ċ", "Ċ"),
          ("Ã", "©"))  # fmt: skip
MARKS = ("<end>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@cache
def merging(marks: int = 1) -> PreTrainedTokenizerFast:
    """A tokenizer that begins texts with nothing, with some of its marks."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(letters)}
    for pair in MERGES:
        vocab["".join(pair)] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(MARKS[:marks]))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def byte_model(marks: int = 1, seed: int = 0) -> lengthwise.Model:
    """A tiny random model with it; its laws are far from uniform."""
    tokenizer = merging(marks)
    return lengthwise.wrap(
        tiny_model("llama", seed, vocab_size=len(tokenizer), initializer_range=0.15), tokenizer
    )
