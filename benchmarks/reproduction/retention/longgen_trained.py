"""LongGen with training: the embedded model trained on for a few steps under its windows.

The trainer reads passages of Moby Dick of about 600 tokens, each with a list of 32 of the book's
words before it and again behind it: what is asked of afar has to pass the middle layers. COPY and
TEXT are those of `selection/copying.py`, of another text and other words. The same steps without
windows are the paper's comparison. Products are bfloat16 in training; reading is in the dtype that
the machine is fast at. What is built or trained is kept in FOLDER and not done again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reproduction import tiny
from benchmarks.reproduction.book import moby_dick
from benchmarks.reproduction.harness import Found, Note, check, load
from benchmarks.reproduction.retention.duo import LENGTH
from benchmarks.reproduction.retention.longgen import WINDOW
from benchmarks.reproduction.selection.copying import COPY, TEXT, copy_and_text

import lengthwise
from lengthwise.recipes import resolve
from lengthwise.sequences.encoder import load_encoder
from lengthwise.sequences.files import written_aside

ROW, PASSAGES, PASSAGE, WORDS = 768, 400, 2300, 32
RECIPE = f"longgen(window={WINDOW})"


def prepare(folder: Path) -> str:
    """The embedded model as a checkpoint, FOLDER/base, and the rows; their name in FOLDER."""
    base, source = folder / "base", folder / "passages.jsonl"
    model = load()
    if not (base / "config.json").exists():
        model.adapted.model.save_pretrained(base)
        model.tokenizer.save_pretrained(base)  # type: ignore[union-attr]
    if not source.exists():
        text, chance = moby_dick(), random.Random(0)
        known = sorted({word for word in text.split() if word.isalpha() and word.islower()})
        with written_aside(source) as aside, aside.open("w", encoding="utf-8") as out:
            for _ in range(PASSAGES):
                start = chance.randrange(len(text) - PASSAGE)
                words = ", ".join(chance.sample(known, WORDS))
                row = f"List: {words}.\n\n{text[start : start + PASSAGE]}\n\nList: {words}."
                out.write(json.dumps({"text": row}) + "\n")
    words = load_encoder(str(base / "tokenizer.json"), tiny.END)
    return tiny.data(folder, source, "best-fit", length=ROW, words=words)


def trained(folder: Path, name: str, rows: str, steps: int, **other: Any) -> Path:
    """The model trained on, from FOLDER/base."""
    return tiny.run(
        folder, f"{name}-{steps}", rows, steps=steps, tokens_per_step=ROW,
        model={"checkpoint": str((folder / "base").absolute())}, optimizer={"lr": 1e-4},
        schedule={"warmup_steps": max(1, steps // 8), "floor": 1e-5},
        precision="bf16", log={"every": 1, "plot_every": 0}, **other,
    )  # fmt: skip


@check({"model": "", "recipe": "", COPY: ".3f", TEXT: ".3f"})
def longgen_trained(folder: Path, steps: int = 20, without: int = 20) -> Iterator[Found]:
    """As it came, trained under the windows, and for `without` steps (0: not) without."""
    rows = prepare(folder)
    windows = {"name": "longgen", "window": WINDOW}
    places = {
        "as it came": folder / "base",
        "trained under the windows": trained(folder, "windows", rows, steps, retention=windows),
    }
    if without:
        places["trained without"] = trained(folder, "full", rows, without)
    for name, place in places.items():
        at = place / "model" if (place / "model").exists() else place
        model = lengthwise.load(str(at))
        for recipe in ("full", RECIPE):
            copied, text = copy_and_text(resolve(recipe, model.adapted), LENGTH, model)
            yield {"model": name, "recipe": f"`{recipe}`", COPY: copied, TEXT: text}
    yield Note({"steps": steps, "tokens": steps * ROW})
