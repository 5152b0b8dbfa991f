"""The text that selections are calibrated on: a real one where the model's tokenizer is known."""

from __future__ import annotations

import torch

from lengthwise.documents.files import read_document
from lengthwise.models.adapted_model import AdaptedModel

# More characters than any tokenizer takes for a token of English, on average.
CHARACTERS = 10


def calibration_text(model: AdaptedModel, length: int, seed: int = 0) -> list[int]:
    """Token ids for a model to read, its first token before them where it has one.

    Args:
        model: with a tokenizer the text is the end of Python's language reference; without one, and
            where that is too short, tokens are drawn at random.
        length: tokens.
        seed: of random tokens.
    """
    first = model.model.config.get_text_config().bos_token_id
    start = [first] if isinstance(first, int) else []
    wanted = max(1, length - len(start))
    ids: list[int] = []
    if model.tokenizer is not None:
        text = read_document().text[-CHARACTERS * wanted :]
        ids = list(model.tokenizer.encode(text, add_special_tokens=False))[-wanted:]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, model.vocab_size, (wanted - len(ids),), generator=generator)
    return [*start, *ids, *drawn.tolist()]


__all__ = ["calibration_text"]
