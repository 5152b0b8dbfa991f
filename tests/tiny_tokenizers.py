"""Tokenizers of three kinds, made in memory: what the text of tokens is tested with."""

from __future__ import annotations

from functools import lru_cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = ("▁hello", "▁world", "lo", "▁", "x", "▁é", "ä", "▁.", "▁n't", "日", "�")


@lru_cache
def byte_fallback() -> PreTrainedTokenizerFast:
    """Llama 2's kind: a byte without a token of its own is a token of its own."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    for word in WORDS:
        vocab[word] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>",
                                   unk_token="<unk>")  # fmt: skip


@lru_cache
def byte_level() -> PreTrainedTokenizerFast:
    """GPT-2's kind: every byte is a letter, and characters may be cut anywhere."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(letters)}
    for pair in ("Ġthe", "Ã©", "æĹ", "ðŁĺ"):
        vocab[pair] = len(vocab)
    vocab["<end>"] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@lru_cache
def word_piece() -> PreTrainedTokenizerFast:
    vocab = {
        w: n for n, w in enumerate(["[UNK]", "a", "##b", ".", "'", "s", "do", "n't", ",", "c"])
    }
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
