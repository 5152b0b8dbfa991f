"""Tiny data sets and runs that the tests of training share."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder, Encoder
from lengthwise.sequences.records import Fields
from lengthwise.training.config import RunConfig, read_config
from lengthwise.training.progress import TrainingProgress
from lengthwise.training.trainer import train

LLAMA = {
    "family": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
# With dropout, so that random generators matter.
GPT2 = {"family": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4}


def texts(count: int, longest: int, seed: int = 0, letters: str = "abcdef \n") -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices(letters, k=chance.randint(1, longest))) + "x"
            for _ in range(count)]  # fmt: skip


def build_set(
    place: Path, name: str, documents: list[str], method: str, encoder: Encoder | None = None
) -> Path:
    if method == "pair":
        source = place / f"{name}-code"
        source.mkdir()
        for number, text in enumerate(documents):
            test = "test_" * (number % 2)
            (source / f"{test}part{number // 2}.py").write_text(text)
    else:
        source = place / f"{name}.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    options = {"min_length": "16"} if method == "decompose" else {}
    out = place / name
    build(Build(Sources((str(source),), Fields()), encoder or ByteEncoder(),
                make_builder(method, options, 64), Settings(), out, out / "tokens"))  # fmt: skip
    return out


def build_sets(place: Path) -> Path:
    """One data set for each method, `validation`, and `domain`, which has no letter of theirs."""
    for method in ("decompose", "concat", "concat-masked", "best-fit"):
        build_set(place, method, texts(150, 200), method)
    build_set(place, "validation", texts(12, 150, seed=1), "concat")
    build_set(place, "domain", texts(60, 200, seed=2, letters="ABC"), "decompose")
    return place


def config(place: Path, method: str = "decompose", out: str = "run", **other: Any) -> RunConfig:
    """A run of six steps of 256 tokens, unless `other` says otherwise."""
    table: dict[str, Any] = {
        "out": out, "tokens_per_step": 256, "steps": 6, "model": LLAMA,
        "data": {"train": method, "validation": "validation"},
        "log": {"every": 1, "plot_every": 0}, "checkpoint": {"every": 0},
    }  # fmt: skip
    table |= other
    if "epochs" in other or "tokens" in other:
        del table["steps"]
    return read_config(table, place)


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The records of a run without what a clock decides."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    timed = ("seconds", "elapsed")
    return [
        {key: value for key, value in record.items() if key not in timed}
        for record in records
        if record["kind"] != "cost"
    ]


class Watching(TrainingProgress):
    """Keeps notes, and sends this process a signal when a step is recorded."""

    def __init__(self, step: int = -1) -> None:
        self._step, self.said = step, list[str]()

    def note(self, text: str) -> None:
        self.said.append(text)

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        if step == self._step:
            os.kill(os.getpid(), signal.SIGINT)


def stop(place: Path, out: Path | str, after: int, **other: Any) -> Path:
    """The folder of a run that was interrupted after so many steps."""
    outcome = train(config(place, out=str(out), **other), Watching(after))
    assert (outcome.step, outcome.signal) == (after, signal.SIGINT)
    return outcome.folder


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs left the same model, bit for bit."""
    first, second = (load_file(each / "model" / "model.safetensors") for each in (one, other))
    return all(torch.equal(first[key], second[key]) for key in first)
