"""The text that selections are calibrated on: tokens that stand twice, real ones where known."""

from __future__ import annotations

import torch

from lengthwise.documents.files import read_document
from lengthwise.models.adapted_model import AdaptedModel


def calibration_text(model: AdaptedModel, length: int, seed: int = 0) -> list[int]:
    """Token ids for a model to read.

    Args:
        model: with a tokenizer the text is the end of Python's language reference, else tokens are
            drawn at random. Either stands twice, so that there is something to find far back.
        length: tokens, or as many as the model was trained for.
        seed: of random tokens.
    """
    length = min(length, model.trained_length)
    first = model.model.config.get_text_config().bos_token_id
    start = [first] if isinstance(first, int) else []
    half = max(1, (length - len(start)) // 2)
    ids: list[int] = []
    if model.tokenizer is not None:
        # Ten characters a token are more than any text needs.
        text = read_document().text[-10 * half :]
        ids = list(model.tokenizer.encode(text, add_special_tokens=False))[-half:]
    if len(ids) < half:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, model.vocab_size, (half,), generator=generator).tolist()
    return [*start, *ids, *ids]


__all__ = ["calibration_text"]
