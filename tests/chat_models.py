"""A tiny model with a tokenizer of bytes and a chat template, for sessions and chats."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import lengthwise
from lengthwise.sequences.encoder import byte_tokenizer
from lengthwise.testing.tiny import tiny_model

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
# As reasoning models do: what was thought in earlier turns is taken out.
FORGETFUL = TEMPLATE.replace("m['content']", "m['content'].split('z')[-1]")


def tokenizer(
    template: str | None = TEMPLATE, merges: tuple[tuple[str, str], ...] = ()
) -> PreTrainedTokenizerFast:
    """A token a byte, but for those that are merged."""
    plain = byte_tokenizer()
    vocabulary = plain.get_vocab(with_added_tokens=False)
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    made.pre_tokenizer, made.decoder = plain.pre_tokenizer, plain.decoder
    made.add_special_tokens(["<|endoftext|>"])
    found = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>")
    if template is not None:
        found.chat_template = template
    return found


def chat_model(
    template: str | None = TEMPLATE, merges: tuple[tuple[str, str], ...] = (), **changes: Any
) -> lengthwise.Model:
    """A model whose answers are any letters, and which never stops by itself."""
    made = tokenizer(template, merges)
    stock = tiny_model(
        "llama", initializer_range=0.15, vocab_size=len(made), max_position_embeddings=512,
        eos_token_id=None, **changes,
    )  # fmt: skip
    # Bytes that are no text would be others when they are encoded again.
    texts = [made.decode([token]) for token in range(len(made))]
    odd = [n for n, text in enumerate(texts) if not (text.isascii() and text.isalpha())]
    stock.generation_config.suppress_tokens = odd
    return lengthwise.wrap(stock, made)
