"""Training by length against chopping, on the functions of Python's own library.

    python -m benchmarks.checks.training FOLDER compare [--seeds 3] [--steps 300] [--methods ...]
    python -m benchmarks.checks.training FOLDER lengths [--steps 4]
    python -m benchmarks.checks.training FOLDER table

A document is a function or method, about as short beside the longest row (4,096 bytes) as a web
page is beside 8,192 tokens. One file in 20 is for validation: its documents whole, one by one.

`compare` trains the baseline, `concat`, for so many steps, and from the same seed every other
method for as many tokens (`tokens`), `decompose` also for as many seconds (`seconds`) and half of
those (`half`), each with a schedule of its own length; a step of the others costs what the
baseline's does. One JSON line a run; what is finished is kept in FOLDER and not done again.
`lengths` measures what a token costs where the longest row has 1,024 tokens and where it has 8,192.
`table` prints what `compare` found, and draws the first seed's runs to FOLDER/curves.png.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sysconfig
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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


def functions(path: Path) -> Iterator[str]:
    """Top-level functions and methods of a source file, each moved to the left margin."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (UnicodeDecodeError, SyntaxError):
        return
    lines = text.splitlines(keepends=True)
    for node in tree.body:
        for each in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                yield textwrap.dedent("".join(lines[each.lineno - 1 : each.end_lineno]))


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


def compare(
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


def lengths(folder: Path, steps: int) -> Iterator[dict[str, Any]]:
    """What a token costs by method and longest row; the lengths of `decompose` in their shares."""
    for method, count in ((BASELINE, steps), ("decompose", 20 * steps)):
        for longest in (1024, 8192):
            rows = data(folder, method, longest)
            name = f"lengths-{rows}"
            if not (folder / "runs" / name / "model").exists():
                train(config(folder, rows, name, count, 0, "uniform", 1, 8192))
            costs = seconds_of_lengths(read_log(folder / "runs" / name / NAME, "train"))
            seconds = sum(n * each for n, each in costs.values())
            yield {
                "method": method, "max_length": longest, "steps_and_seconds_by_length": costs,
                "seconds_a_token": seconds / sum(n for n, _ in costs.values()) / 8192,
            }  # fmt: skip


def table(found: Sequence[dict[str, Any]]) -> str:
    """Losses and seconds of every method and budget, a column a seed."""
    base = {each["seed"]: each for each in found if each["method"] == BASELINE}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in found:
        order = f" {each['curriculum']}" if each["method"] == "decompose" else ""
        groups.setdefault((each["method"] + order, each["budget"]), []).append(each)
    lines = [
        "| method | budget | loss by seed | seconds / concat's | until concat's loss |",
        "|---|---|---|---|---|",
    ]
    for names, runs in groups.items():
        whole = [base[each["seed"]]["seconds"] for each in runs]
        cost = statistics.mean(
            each["seconds"] / other for each, other in zip(runs, whole, strict=True)
        )
        reached = " ".join(
            "never" if each["reached"] is None else f"{each['reached'] / other:.2f}"
            for each, other in zip(runs, whole, strict=True)
        )
        losses = " ".join(f"{each['loss']:.4f}" for each in runs)
        lines.append(f"| {' | '.join(names)} | {losses} | {cost:.2f} | {reached} |")
    return "\n".join(lines)


def picture(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws the runs of the first seed."""
    seed = min(each["seed"] for each in found)
    curves = [
        Curve(f"{each['method']}, {each['budget']}", *zip(*each["curve"], strict=True))
        for each in found if each["seed"] == seed
    ]  # fmt: skip
    draw(curves, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="train by length and by chopping")
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=("compare", "lengths", "table"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="*", default=(0, 1, 2))
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--budgets", nargs="*", default=BUDGETS)
    parser.add_argument("--curriculum", default="grow-p2")
    chosen = parser.parse_args()
    store = chosen.folder / "found.jsonl"
    if chosen.what == "table":
        known = {}
        for line in store.read_text().splitlines():
            each = json.loads(line)
            known[each["method"], each["curriculum"], each["budget"], each["seed"]] = each
        print(table(list(known.values())))
        picture(list(known.values()), chosen.folder / "curves.png")
    elif chosen.what == "lengths":
        for each in lengths(chosen.folder, chosen.steps):
            print(json.dumps(each), flush=True)
    else:
        for each in compare(
            chosen.folder,
            chosen.seeds,
            chosen.steps,
            chosen.methods,
            chosen.budgets,
            chosen.curriculum,
        ):
            with store.open("a") as lines:
                lines.write(json.dumps(each) + "\n")
            print(json.dumps({**each, "curve": len(each["curve"])}), flush=True)


if __name__ == "__main__":
    main()
