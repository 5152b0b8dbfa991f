"""What tuning adds to a change of rotary frequencies, on a small model trained here.

A model of 0.8 million weights learns Python's library byte by byte in rows of 128. Then it reads
rows of 512 of files it never saw, four times longer, as it is and under each recipe; and it is
tuned on rows of 512 for 80 steps, once under its own frequencies and once under each recipe, as
`[positions]` of a training run. Mean losses in nats a byte of positions 1 to 127 (`within`) and 128
to 511 (`beyond`), before and after. What is trained is kept in FOLDER and not trained again. All in
float32, the same rows for all.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, check
from transformers import AutoModelForCausalLM

import lengthwise
from lengthwise.recipes import Recipe
from lengthwise.recipes.registry import find
from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.records import Fields
from lengthwise.training.config import read_config
from lengthwise.training.trainer import train

TRAINED, LONG = 128, 512
TOKENS_PER_STEP = 2048
ROWS = 48
HELD_OUT = ("logging", "concurrent", "wsgiref", "zoneinfo")
LEARNED = ("asyncio", "email", "http", "importlib", "json", "unittest", "xml")
MODEL = {
    "family": "llama", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True,
}  # fmt: skip
POSITIONS: dict[str, dict[str, Any]] = {
    "own": {},
    "pi": {"name": "pi", "factor": 4},
    "ntk": {"name": "ntk", "factor": 4},
    "yarn": {"name": "yarn", "factor": 4},
    "giraffe_power": {"name": "giraffe", "power": 0.5, "scale": 1},
    "giraffe_truncated": {"name": "giraffe", "truncate": 128, "scale": 1},
}


def prepare(folder: Path) -> None:
    """Rows of both lengths, and the held-out text."""
    library = Path(sysconfig.get_paths()["stdlib"])
    folder.mkdir(parents=True, exist_ok=True)
    for name, packages in (("train", LEARNED), ("held-out", HELD_OUT)):
        place = folder / f"{name}.jsonl"
        if not place.exists():
            files = sorted(path for each in packages for path in (library / each).rglob("*.py"))
            texts = [path.read_text(encoding="utf-8") for path in files]
            place.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts if text))
    for length in (TRAINED, LONG):
        out = folder / f"rows-{length}"
        if not out.exists():
            sources = Sources((str(folder / "train.jsonl"),), Fields())
            builder = make_builder("concat", {}, length)
            tokens = folder / f"tokens-{length}"
            build(Build(sources, ByteEncoder(), builder, Settings(), out, tokens))


def trained(folder: Path, name: str, length: int, steps: int, **other: Any) -> Path:
    """A run's model, trained now where it is not there yet."""
    place = folder / "runs" / name / "model"
    if not place.exists():
        table = {
            "out": f"runs/{name}", "steps": steps, "tokens_per_step": TOKENS_PER_STEP,
            "data": {"train": f"rows-{length}"}, "schedule": {"warmup_steps": 10},
            "log": {"every": 10, "plot_every": 0}, "checkpoint": {"every": 0}, **other,
        }  # fmt: skip
        train(read_config(table, folder))
    return place


def rows(folder: Path) -> list[list[int]]:
    """Evenly spread rows of held-out bytes."""
    texts = [json.loads(line)["text"] for line in (folder / "held-out.jsonl").open()]
    whole = list("\n".join(texts).encode())
    step = (len(whole) - LONG) // ROWS
    return [whole[at : at + LONG] for at in range(0, step * ROWS, step)]


def losses(place: Path, recipe: str, held_out: list[list[int]]) -> dict[str, float]:
    """Mean loss of near and far positions."""
    model = lengthwise.wrap(AutoModelForCausalLM.from_pretrained(place))
    found = torch.stack([-model.score(ids, recipe) for ids in held_out]).mean(0)
    within, beyond = found[: TRAINED - 1], found[TRAINED - 1 :]
    return {"within": round(float(within.mean()), 4), "beyond": round(float(beyond.mean()), 4)}


def recipe_of(positions: dict[str, Any]) -> str:
    settings = dict(positions)
    name = settings.pop("name", None)
    return str(Recipe((find(name)(**settings),))) if name else "full"


@check({"recipe": "", "before: within": ".3f", "before: beyond": ".3f",
        "after: within": ".3f", "after: beyond": ".3f"})  # fmt: skip
def tuned_positions(folder: Path, steps: int = 400, tune: int = 80) -> Iterator[Found]:
    """Each rule untuned, and after tuning under it."""
    prepare(folder)
    held_out = rows(folder)
    base = trained(
        folder, "base", TRAINED, steps, model=MODEL, optimizer={"lr": 3e-3},
    )  # fmt: skip
    for name, positions in POSITIONS.items():
        tuned = trained(
            folder, name, LONG, tune, model={"checkpoint": str(base.absolute())},
            optimizer={"lr": 5e-4}, positions=positions,
        )  # fmt: skip
        recipe = recipe_of(positions)
        before, after = losses(base, recipe, held_out), losses(tuned, "full", held_out)
        yield {
            "recipe": f"`{recipe}`" + (" (own frequencies)" if recipe == "full" else ""),
            **{f"before: {where}": loss for where, loss in before.items()},
            **{f"after: {where}": loss for where, loss in after.items()},
        }
