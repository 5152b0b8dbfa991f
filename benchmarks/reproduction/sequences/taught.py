"""What checks of ways of building sequences share: tiny models, and what they lose on documents.

Models of one check read equally many tokens. Losses are nats a token on what was held out, each
with the standard error of its mean over documents. One thread, 2 to 6 minutes each. What is built
or trained is kept in FOLDER and not done again.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.reproduction import tiny
from transformers import PreTrainedModel

COUNT = 200
"""Documents measured."""
LONGEST = 384
ROW = 256
TINY = {
    "family": "llama", "hidden_size": 64, "intermediate_size": 168, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
RUN: dict[str, Any] = {"model": TINY, "steps": 500, "optimizer": {"lr": 5e-3}}
Ids = list[int]


def mean(values: Sequence[float]) -> dict[str, float]:
    """A mean and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5
    return {"value": round(statistics.mean(values), 4), "error": round(error, 4)}


def gain(without: Sequence[float], given: Sequence[float]) -> dict[str, float]:
    """By how much the second are lower, document by document."""
    return mean([a - b for a, b in zip(without, given, strict=True)])


def loss(model: PreTrainedModel, before: Ids, document: Ids) -> float:
    """Nats a token of a document."""
    return float(tiny.losses(model, before, document).mean())


def tokens(folder: Path, place: Path) -> list[Ids]:
    """The token ids of each text of a JSONL file."""
    return [ids.tolist() for ids in tiny.encoder(folder).encode(tiny.texts(place))]


def fitting(documents: list[Ids]) -> list[Ids]:
    """COUNT of them, or what there is, neither very short nor very long."""
    found = [each for each in documents if 32 <= len(each) <= LONGEST]
    return random.Random(0).sample(found, min(COUNT, len(found)))
