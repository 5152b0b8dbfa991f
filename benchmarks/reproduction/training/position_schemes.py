"""Position schemes and longer texts: tiny models trained on short examples, tried on longer ones.

A decoder of `lengthwise.architectures` learns a task from examples of 1 to 8 symbols, one model
for each scheme, task and seed, by the trainer on rows packed with examples. Then it answers
examples of 1 to 8 and of 9 to 16 symbols, drawn anew. An answer counts where every symbol of it
and the end are the likeliest, which is what greedy decoding would write. Tasks: `copy` and
`reverse` of letters, `addition` of two numbers of as many digits, least digit first. What is built
or trained is kept in FOLDER and not done again. float32, CPU.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, check
from transformers import AutoModelForCausalLM, PreTrainedModel

from lengthwise import architectures
from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.files import written_aside
from lengthwise.sequences.records import Fields
from lengthwise.training.config import read_config
from lengthwise.training.trainer import train

LONGEST, EXAMPLES, TRIED = 8, 40_000, 50
ROW, END = 32, 256
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MODEL = {
    "family": "position_schemes", "hidden_size": 64, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.1,
}  # fmt: skip
SCHEMES = ("none", "t5", "alibi", "rotary", "sinusoidal")


def example(task: str, size: int, chance: random.Random) -> tuple[str, str]:
    """A question of so many symbols, and its answer."""
    if task == "addition":
        first, second = (chance.randrange(10 ** (size - 1) * (size > 1), 10**size) for _ in "ab")
        return f"{str(first)[::-1]}+{str(second)[::-1]}=", str(first + second)[::-1]
    word = "".join(chance.choices(LETTERS, k=size))
    return f"{word}>", word if task == "copy" else word[::-1]


def prepare(folder: Path, task: str) -> str:
    """The rows of a task; their name in FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    source, name = folder / f"{task}.jsonl", f"rows-{task}"
    if not source.exists():
        chance = random.Random(0)
        with written_aside(source) as aside, aside.open("w", encoding="utf-8") as out:
            for _ in range(EXAMPLES):
                text = "".join(example(task, chance.randint(1, LONGEST), chance))
                out.write(json.dumps({"text": text}) + "\n")
    builder = make_builder("best-fit", {}, ROW)
    build(Build(Sources((str(source),), Fields()), ByteEncoder(), builder, Settings(),
                folder / name, folder / name / "tokens"))  # fmt: skip
    return name


def trained(folder: Path, rows: str, name: str, scheme: str, steps: int, seed: int) -> Path:
    """The model of a scheme, trained now where it is not there yet."""
    place = folder / "runs" / name
    if not (place / "model").exists():
        table: dict[str, Any] = {
            "out": f"runs/{name}", "tokens_per_step": 1024, "steps": steps, "seed": seed,
            "model": {**MODEL, "scheme": scheme}, "data": {"train": rows},
            "optimizer": {"lr": 3e-3},
            "schedule": {"warmup_steps": min(50, steps // 4), "floor": 1e-4},
            "log": {"plot_every": 0}, "checkpoint": {"every": 0},
        }  # fmt: skip
        train(read_config(table, folder))
    return place / "model"


@torch.inference_mode()
def right(model: PreTrainedModel, task: str, size: int) -> tuple[float, float]:
    """The share of right answers and of right symbols, of TRIED questions of a size."""
    chance = random.Random(f"{task} {size}")
    by_length: dict[int, list[tuple[list[int], int]]] = {}
    for _ in range(TRIED):
        question, answer = example(task, size, chance)
        row = [*question.encode(), *answer.encode(), END]
        by_length.setdefault(len(row), []).append((row, len(question)))
    answers, symbols = 0, []
    for found in by_length.values():
        rows = torch.tensor([row for row, _ in found])
        said = model(input_ids=rows[:, :-1]).logits.argmax(-1)
        for one, wanted, (_, start) in zip(said, rows[:, 1:], found, strict=True):
            alike = one[start - 1 :] == wanted[start - 1 :]
            answers += bool(alike.all())
            symbols.append(float(alike.float().mean()))
    return answers / TRIED, mean(symbols)


@check({"scheme": "", "task": "", "seeds": "d", "1 to 8": ".0%", "9": ".0%", "9 to 16": ".1%",
        "lowest, 9 to 16": ".1%", "highest, 9 to 16": ".1%",
        "symbols, 9 to 16": ".0%"})  # fmt: skip
def position_schemes(
    folder: Path, tasks: tuple[str, ...] = ("copy", "reverse"),
    schemes: tuple[str, ...] = SCHEMES, seeds: int = 3, steps: int = 1500,
) -> Iterator[Found]:  # fmt: skip
    """The share of right answers at trained lengths and at twice these, a mean over seeds.

    symbols: the share of right symbols, each after the right ones before it.
    """
    architectures.register()
    for task in tasks:
        rows = prepare(folder, task)
        for scheme in schemes:
            near, next_one, far, symbols = [], [], [], []
            for seed in range(seeds):
                name = f"{task}-{scheme}-{steps}-{seed}"
                place = trained(folder, rows, name, scheme, steps, seed)
                model = AutoModelForCausalLM.from_pretrained(place).eval()
                found = {size: right(model, task, size) for size in range(1, 2 * LONGEST + 1)}
                beyond = [found[size] for size in found if size > LONGEST]
                near.append(mean(found[size][0] for size in found if size <= LONGEST))
                next_one.append(beyond[0][0])
                far.append(mean(answers for answers, _ in beyond))
                symbols.append(mean(each for _, each in beyond))
            yield {
                "scheme": scheme, "task": task, "seeds": seeds, "1 to 8": mean(near),
                "9": mean(next_one), "9 to 16": mean(far), "lowest, 9 to 16": min(far),
                "highest, 9 to 16": max(far), "symbols, 9 to 16": mean(symbols),
            }  # fmt: skip
