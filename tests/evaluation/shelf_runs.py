"""A tiny model on a text with probes, for tests of the shelf and its reports."""

from __future__ import annotations

from typing import Any

import torch

import lengthwise
from lengthwise.evaluation.metrics.shelf_rows import ShelfRow
from lengthwise.evaluation.tasks.shelf_text import ShelfText, shelf_text
from lengthwise.testing.tiny import tiny_model
from tests.tiny_tokenizers import byte_level

LENGTH, FOLLOW = 1500, 24
TEXT = " ".join(f"Line {n} of the log says {n * n % 97}, and all is well." for n in range(200))


def tiny() -> lengthwise.Model:
    """A tiny random model that reads bytes."""
    model = tiny_model("llama", vocab_size=512, max_position_embeddings=2048)
    return lengthwise.wrap(model.to(torch.float32), byte_level())


def text_of(model: lengthwise.Model) -> ShelfText:
    """The log with probes planted in it."""
    tokenizer: Any = model.tokenizer
    return shelf_text("log", model.encode(TEXT, special="text"), tokenizer, LENGTH, FOLLOW)


def made_row(recipe: str = "snapkv(budget=25%)", **values: Any) -> ShelfRow:
    """A row as a run gives it, with some of its values changed."""
    row: dict[str, Any] = {
        "engine": "lengthwise", "question": "retention", "method": recipe.partition("(")[0],
        "asked": recipe.partition("(")[0], "share": 0.25, "recipe": recipe, "model": "tiny",
        "dtype": "float32", "device": "cpu",
        "document": "log", "text": "abc", "length": 1000, "follow": 24, "query_aware": False,
        "loss": 2.5, "kl": 0.25, "kl_error": 0.01, "agreement": 0.5, "copy_loss": 1.0,
        "needle_loss": 2.0, "prefill_s": 1.5, "tokens_per_s": 20.0, "new_tokens": 10,
        "kv_bytes": 250, "full_bytes": 1000, "kv_peak_bytes": 1000,
    }  # fmt: skip
    return ShelfRow(**(row | values))


def full_row(**values: Any) -> ShelfRow:
    """The row of full attention."""
    full = {"question": "", "method": "", "share": 1.0, "kl": 0.0, "kl_error": None, "loss": 2.0,
            "kv_bytes": 1000}  # fmt: skip
    return made_row("full", **(full | values))
