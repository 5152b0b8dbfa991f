"""A tiny model trained to 256 tokens on a book, and made longer by minutes of training.

The corpus is Moby Dick, all but the last tenth, in 1,024 byte-level pieces learned from it. The
model is that of `tiny`, 0.5 million weights. Losses are nats a token of the last tenth, read in
rows of 256, 512 and 1,024 tokens that tile the same text, under a recipe of the engine. What is
built or trained is kept in FOLDER and not done again. float32, CPU, one seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.reproduction import tiny
from benchmarks.reproduction.book import moby_dick
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import lengthwise
from lengthwise.api.model import Model
from lengthwise.sequences.encoder import Encoder, load_encoder
from lengthwise.sequences.files import written_aside

TRAINED, LENGTHS = 256, (256, 512, 1024)
HELD_OUT = 8192
"""Tokens that losses are measured on: the last of the book, whole rows of every length."""
STEPS, TUNED = 600, 100
BASE = "base"


def words(folder: Path) -> Encoder:
    """The tokenizer of FOLDER, learned from the book where it is not there yet."""
    place = folder / "tokenizer.json"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=tiny.VOCABULARY, special_tokens=[tiny.END], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        tokenizer.train_from_iterator([moby_dick()], trainer)
        with written_aside(place) as aside:
            tokenizer.save(str(aside))
    return load_encoder(str(place), tiny.END)


def prepare(folder: Path) -> dict[int, str]:
    """The data sets of FOLDER by the length of their rows."""
    encoder = words(folder)
    source = folder / "book.jsonl"
    if not source.exists():
        text = moby_dick()
        with written_aside(source) as aside:
            aside.write_text(json.dumps({"text": text[: len(text) * 9 // 10]}) + "\n", "utf-8")
    return {n: tiny.data(folder, source, "concat", length=n, words=encoder) for n in LENGTHS}


def held_out(folder: Path) -> list[int]:
    """The tokens that losses are measured on."""
    text = moby_dick()
    (ids,) = words(folder).encode([text[len(text) * 9 // 10 :]])
    return list(ids[-HELD_OUT:].tolist())


def base(folder: Path, rows: dict[int, str], steps: int = STEPS) -> Path:
    """The model that was trained to 256 tokens."""
    return tiny.run(folder, BASE, rows[TRAINED], steps=steps) / "model"


def tuned(
    folder: Path, name: str, rows: str, steps: int, positions: dict[str, Any] | None = None,
    rate: float = 1e-3,
) -> Path:  # fmt: skip
    """The base trained on, for so many steps of 2,048 tokens, under other positions."""
    place = tiny.run(
        folder, f"{name}-{steps}", rows, steps=steps,
        model={"checkpoint": str((folder / "runs" / BASE / "model").absolute())},
        optimizer={"lr": rate},
        schedule={"warmup_steps": min(10, steps // 4), "floor": rate / 10},
        positions=positions or {},
    )  # fmt: skip
    return place / "model"


def opened(place: Path) -> Model:
    """The model of a run as the engine reads it."""
    return lengthwise.load(str(place), dtype="float32")


def losses(model: Model, ids: Sequence[int], recipe: str = "full") -> dict[str, float]:
    """Nats a token in rows of each length; the same tokens are predicted in all."""
    found = {}
    for length in LENGTHS:
        rows = [list(ids[at : at + length]) for at in range(0, len(ids), length)]
        total = torch.cat([-model.score(row, recipe) for row in rows])
        found[str(length)] = round(float(total.mean()), 4)
    return found
