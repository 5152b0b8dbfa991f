"""Training by length against chopping, on the functions of Python's own library.

A document is a function or method, about as short beside the longest row (4,096 bytes) as a web
page is beside 8,192 tokens. One file in 20 is for validation: its documents whole, one by one.

The baseline, `concat`, is trained for so many steps, and from the same seed every other method for
as many tokens, `decompose` also for as many seconds and half of those, each with a schedule of its
own length; a step of the others costs what the baseline's does. What is finished is kept in FOLDER
and not done again, and the first seed's runs are drawn to FOLDER/curves.png.
"""

from __future__ import annotations

import json
import statistics
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.tiny import functions

from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.files import written_aside
from lengthwise.sequences.records import Fields
from lengthwise.training.config import RunConfig, read_config
from lengthwise.training.curves import Curve, draw
from lengthwise.training.log import NAME, read_log
from lengthwise.training.trainer import train

BASELINE = "concat"
METHODS = ("decompose", "concat-masked", "best-fit")
BUDGETS = ("half", "tokens", "seconds")
MAX_LENGTH, TOKENS_PER_STEP = 4096, 4096
EVALUATIONS = 15
MODEL = {
    "family": "llama", "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 5,
    "num_attention_heads": 3, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip


def write_corpus(folder: Path) -> None:
    """train.jsonl and validation.jsonl of this Python's library, without its tests."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(
        path for path in library.rglob("*.py")
        if not {"site-packages", "dist-packages", "test", "tests", "idlelib"} & set(path.parts)
    )  # fmt: skip
    parts = {"train": [f for i, f in enumerate(files) if i % 20], "validation": files[::20]}
    for name, chosen in parts.items():
        place = folder / f"{name}.jsonl"
        if not place.exists():
            with written_aside(place) as aside:
                texts = (text for path in chosen for text in functions(path))
                aside.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def data(folder: Path, method: str, max_length: int = MAX_LENGTH, source: str = "train") -> str:
    """The data set of a method, built unless it is there; its name in FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder)
    name = f"{source}-{method}-{max_length}"
    options = {"min_length": "64"} if method == "decompose" else {}
    build(Build(
        Sources((str(folder / f"{source}.jsonl"),), Fields()), ByteEncoder(),
        make_builder(method, options, max_length), Settings(), folder / name,
        folder / name / "tokens" if source == "validation" else folder / "tokens",
    ))  # fmt: skip
    return name


def config(
    folder: Path, rows: str, name: str, steps: int, seed: int,
    curriculum: str = "grow-p2", cycles: int = 4, tokens_per_step: int = TOKENS_PER_STEP,
) -> RunConfig:  # fmt: skip
    """One run of `steps` steps over the data set `rows`, in FOLDER/runs/NAME."""
    return read_config(
        {
            "out": f"runs/{name}", "tokens_per_step": tokens_per_step, "steps": steps,
            "seed": seed, "model": MODEL, "precision": "bf16",
            "curriculum": {"name": curriculum, "cycles": min(cycles, steps)},
            "data": {"train": rows, "validation": data(folder, BASELINE, source="validation")},
            "optimizer": {"lr": 3e-3}, "log": {"every": 1, "plot_every": 0},
            "schedule": {"warmup_steps": max(1, steps // 15), "floor": 3e-5},
            "checkpoint": {"every": 100, "keep": 1},
            "evaluation": {"every": max(1, steps // EVALUATIONS), "documents": 96},
        },
        folder,
    )  # fmt: skip


def seconds_of_lengths(records: Iterator[dict[str, Any]]) -> dict[int, tuple[int, float]]:
    """(steps, median seconds of one) of every row length in the log of a run."""
    found: dict[int, list[float]] = {}
    for record in records:
        found.setdefault(round(record["length"]), []).append(record["seconds"])
    return {n: (len(each), statistics.median(each)) for n, each in sorted(found.items())}


def run(
    folder: Path, method: str, budget: str, steps: int, seed: int, curriculum: str = "grow-p2"
) -> dict[str, Any]:
    """Trains, or reads what was trained, and tells how it went.

    seconds: those of the steps alone, each at the median of its row length, so that what else the
    machine did now and then does not count; `elapsed` is the sum as it was. curve: (seconds,
    tokens, validation loss).
    """
    name = f"{method}-{curriculum}-{budget}-{seed}"
    place = folder / "runs" / name
    if not (place / "model").exists():
        train(config(folder, data(folder, method), name, steps, seed, curriculum))
    costs = seconds_of_lengths(read_log(place / NAME, "train"))
    curve, seconds, elapsed = [], 0.0, 0.0
    for record in read_log(place / NAME):
        if record["kind"] == "train":
            seconds += costs[round(record["length"])][1]
            elapsed = record["elapsed"]
        elif record["kind"] == "evaluation":
            curve.append((seconds, record["D"], record["L"]))
    fitted = [each["error"] for each in read_log(place / NAME, "cost")]
    return {
        "method": method, "curriculum": curriculum, "budget": budget, "seed": seed, "steps": steps,
        "tokens": curve[-1][1], "seconds": seconds, "elapsed": elapsed, "loss": curve[-1][2],
        "cost_error": fitted[0] if fitted else None, "curve": curve,
    }  # fmt: skip


def runs(
    folder: Path, seeds: Sequence[int], steps: int, methods: Sequence[str] = METHODS,
    budgets: Sequence[str] = BUDGETS, curriculum: str = "grow-p2",
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """All runs, the baseline of each seed first. reached: seconds to the baseline's last loss."""
    for seed in seeds:
        baseline = run(folder, BASELINE, "tokens", steps, seed)
        yield baseline | {"reached": baseline["seconds"]}
        for method in methods:
            for budget in budgets if method == "decompose" else ("tokens",):
                wanted = steps
                if budget != "tokens":
                    cost = seconds_a_step(folder, method, curriculum)
                    wanted = round(baseline["seconds"] / cost * (0.5 if budget == "half" else 1))
                found = run(folder, method, budget, wanted, seed, curriculum)
                reached = [at for at, _, loss in found["curve"] if loss <= baseline["loss"]]
                yield found | {"reached": reached[0] if reached else None}


def seconds_a_step(folder: Path, method: str, curriculum: str) -> float:
    """Mean seconds of a step, each length at its median: from a short run of every length."""
    name = f"probe-{method}-{curriculum}"
    if not (folder / "runs" / name / "model").exists():
        train(config(folder, data(folder, method), name, 60, 0, curriculum))
    costs = seconds_of_lengths(read_log(folder / "runs" / name / NAME, "train"))
    return sum(n * each for n, each in costs.values()) / sum(n for n, _ in costs.values())


TITLES = {"tokens": "as many tokens", "seconds": "as many seconds", "half": "half the seconds"}


UNTIL = "until `concat`'s loss"
SPENT = {"rows": "", "seed": "", "steps": "", "seconds": ".1f", "elapsed": ".1f"}


@check({"rows": "", "trained for": "", "loss": ".3f", "seconds": ".2f", UNTIL: ".2f"},
       seconds=SPENT)  # fmt: skip
def decompose(
    folder: Path, seeds: tuple[int, ...] = (0, 1, 2), steps: int = 250,
    methods: tuple[str, ...] = METHODS, budgets: tuple[str, ...] = BUDGETS,
    curriculum: str = "grow-p2",
) -> Iterator[Found]:  # fmt: skip
    """Validation loss in nats a byte by seed; seconds as a multiple of `concat`'s of the same seed;
    and after what share of these the loss first was that of `concat`'s end."""
    found = []
    for each in runs(folder, seeds, steps, methods, budgets, curriculum):
        found.append(each)
        yield "seconds", {
            "rows": f"`{each['method']}`, {each['budget']}", "seed": each["seed"],
            "steps": each["steps"], "seconds": each["seconds"], "elapsed": each["elapsed"],
        }  # fmt: skip
    picture(found, folder / "curves.png")
    base = {each["seed"]: each["seconds"] for each in found if each["method"] == BASELINE}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault((each["method"], each["budget"]), []).append(each)
    for (method, budget), own in groups.items():
        whole = [base[each["seed"]] for each in own]
        costs = [each["seconds"] / other for each, other in zip(own, whole, strict=True)]
        reached = [
            "never" if each["reached"] is None else round(each["reached"] / other, 2)
            for each, other in zip(own, whole, strict=True)
        ]
        yield {
            "rows": f"`{method}`",
            "trained for": f"{steps} steps" if method == BASELINE else TITLES[budget],
            "loss": [round(each["loss"], 3) for each in own],
            "seconds": round(statistics.mean(costs), 2), UNTIL: reached,
        }  # fmt: skip


@check({"rows": "", "up to 1,024": ".1f", "up to 8,192": ".1f", "ratio": ".2f"})
def lengths(folder: Path, steps: int = 4) -> Iterator[Found]:
    """Microseconds of a token by method and longest row; the lengths of `decompose` in their
    shares."""
    for method, count in ((BASELINE, steps), ("decompose", 20 * steps)):
        row: dict[str, Any] = {"rows": f"`{method}`"}
        for longest in (1024, 8192):
            rows = data(folder, method, longest)
            name = f"lengths-{rows}"
            if not (folder / "runs" / name / "model").exists():
                train(config(folder, rows, name, count, 0, "uniform", 1, 8192))
            costs = seconds_of_lengths(read_log(folder / "runs" / name / NAME, "train"))
            seconds = sum(n * each for n, each in costs.values())
            each = seconds / sum(n for n, _ in costs.values()) / 8192
            row[f"up to {longest:,}"] = round(each * 1e6, 1)
            yield Note({f"{method}, {longest}: steps and seconds by length": costs})
        row["ratio"] = round(row["up to 8,192"] / row["up to 1,024"], 2)
        yield row


def picture(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws the runs of the first seed."""
    seed = min(each["seed"] for each in found)
    curves = [
        Curve(f"{each['method']}, {each['budget']}", *zip(*each["curve"], strict=True))
        for each in found if each["seed"] == seed
    ]  # fmt: skip
    draw(curves, path)
