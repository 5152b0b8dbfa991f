"""A model that talks, and small settings, for tests of cartridges."""

from __future__ import annotations

import lengthwise
from lengthwise.api.cartridge import initial_session
from lengthwise.engine.given import entries_of
from lengthwise.testing.tiny import tiny_model
from lengthwise.training.cartridge import Settings, Study
from lengthwise.training.cartridge_student import Prefix
from tests.chat_models import TEMPLATE, tokenizer

CORPUS = " ".join(f"Ada{n} keeps {n * 7} bees at gate {n % 5}." for n in range(12))
STUDY = Study(pairs=6, batch=3, min_chunk=20, max_chunk=40, question_tokens=8, answer_tokens=8)
SETTINGS = Settings(tokens=24, steps=4, batch=4, lr=0.05, every=2)


def talker(seed: int = 0, template: str | None = TEMPLATE) -> lengthwise.Model:
    made = tokenizer(template)
    stock = tiny_model(
        "llama", seed=seed, initializer_range=0.15, vocab_size=len(made),
        max_position_embeddings=1024, eos_token_id=None,
    )  # fmt: skip
    texts = [made.decode([token]) for token in range(len(made))]
    stock.generation_config.suppress_tokens = [
        n for n, text in enumerate(texts) if not (text.isascii() and text.isalpha())
    ]
    return lengthwise.wrap(stock, made)


def begun(model: lengthwise.Model, count: int = 24) -> Prefix:
    return Prefix(entries_of(initial_session(model, CORPUS, count).held))


# The student.
