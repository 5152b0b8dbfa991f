"""Small tokenizers that learned some text, and models for them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lengthwise.testing.tiny import tiny_model

TEXT = (
    "The cat sat on the mat, and the other cat sat on another mat. A rat ran at the cats; "
    "cats and rats and mats are what this text is about. The theatre is there. 猫 und Käse, été. "
) * 3
OTHER = (
    "Bir varmış bir yokmuş, evvel zaman içinde bir kedi varmış. Kediler evlerde yaşarmış, "
    "evlerden kedilere gidermiş. The cat was there. "
) * 3
TEMPLATE = (
    "{% for m in messages %}<turn>{{ m['role'] }} {{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant {% endif %}"
)


@lru_cache
def byte_level(
    text: str = TEXT, size: int = 330, specials: tuple[str, ...] = ("<end>", "<turn>", "<pad>"),
    template: bool = True,
) -> PreTrainedTokenizerFast:  # fmt: skip
    """GPT-2's kind, trained on a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ))  # fmt: skip
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=specials[0] if specials else None,
        pad_token="<pad>" if "<pad>" in specials else None,
    )
    if template and "<turn>" in specials:
        made.chat_template = TEMPLATE
    return made


@lru_cache
def pieces(text: str = TEXT, size: int = 400, opening: bool = True) -> PreTrainedTokenizerFast:
    """Llama 2's kind: pieces with a mark for spaces, and bytes for what has no piece."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False,
        limit_alphabet=20,
    ))  # fmt: skip
    # Bytes are tokens as any other, not special ones.
    table = json.loads(tokenizer.to_str())
    table["added_tokens"] = table["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(table))
    if opening:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@lru_cache
def unigram(text: str = TEXT, size: int = 340) -> PreTrainedTokenizerFast:
    """A Unigram of bytes."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text], trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<unk>", "<end>"], unk_token="<unk>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    ))  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")


def model_of(
    tokenizer: PreTrainedTokenizerFast, family: str = "llama", padding: int = 0, **changes: Any
) -> PreTrainedModel:
    """A random model with the ids of a tokenizer."""
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in
           ("bos", "eos", "pad")}  # fmt: skip
    return tiny_model(family, vocab_size=len(tokenizer) + padding, **{**ids, **changes})
