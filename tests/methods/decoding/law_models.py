"""A tiny model whose tokenizer has every byte, for laws that read the text of tokens."""

from __future__ import annotations

from functools import lru_cache

import lengthwise
from lengthwise.testing.tiny import tiny_model
from tests.chat_models import TEMPLATE, tokenizer


@lru_cache
def written_model() -> lengthwise.Model:
    """It says any bytes; its end token is that of the tokenizer."""
    made = tokenizer(TEMPLATE)
    stock = tiny_model(
        "llama", initializer_range=0.15, vocab_size=len(made) + 3, max_position_embeddings=512,
        eos_token_id=made.eos_token_id,
    )  # fmt: skip
    return lengthwise.wrap(stock, made)
