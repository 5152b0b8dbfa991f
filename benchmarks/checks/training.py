"""Training by length against chopping, on Python's own library: one JSON line a run.

    python -m benchmarks.checks.training FOLDER [--minutes 10] [--seeds 3] [--methods ...]

The baseline, `concat`, is trained for so many steps as take `minutes` here. Every other method is
trained from the same seed for as many tokens (`tokens`), for as many seconds (`seconds`) and for
half of those (`half`), each with a schedule of its own length. A line has the final validation
loss, the seconds of training (without evaluation), and `reached`: the seconds after which the loss
first was that of the baseline's end, None if never. Byte vocabulary; one file in 20 is for
validation. What is finished is kept in FOLDER and not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.files import read_json, write_json
from lengthwise.sequences.records import Fields
from lengthwise.training.config import RunConfig, read_config
from lengthwise.training.log import NAME, read_log
from lengthwise.training.trainer import train

BASELINE = "concat"
METHODS = ("decompose", "concat-masked", "best-fit")
BUDGETS = ("tokens", "seconds", "half")
MAX_LENGTH = 2048
TOKENS_PER_STEP = 8192
EVALUATIONS = 20
PROBE_STEPS = 12
MODEL = {
    "family": "llama", "hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 6,
    "num_attention_heads": 5, "num_key_value_heads": 5, "tie_word_embeddings": True,
}  # fmt: skip


def build_all(folder: Path, max_length: int = MAX_LENGTH) -> None:
    """The data sets of all methods and `validation`, with one token store for the former."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(
        path for path in library.rglob("*.py")
        if not {"site-packages", "test", "tests", "idlelib"} & set(path.parts)
    )  # fmt: skip
    parts = {"train": [f for i, f in enumerate(files) if i % 20], "validation": files[::20]}
    for name in (BASELINE, *METHODS, "validation"):
        sources = parts["validation" if name == "validation" else "train"]
        method = BASELINE if name == "validation" else name
        options = {"min_length": "64"} if method == "decompose" else {}
        tokens = folder / "tokens" if name != "validation" else folder / name / "tokens"
        build(Build(
            Sources(tuple(map(str, sources)), Fields()), ByteEncoder(),
            make_builder(method, options, max_length), Settings(), folder / name, tokens,
        ))  # fmt: skip


def config(folder: Path, method: str, name: str, steps: int, seed: int) -> RunConfig:
    """One run of `steps` steps in FOLDER/runs/NAME."""
    return read_config(
        {
            "out": f"runs/{name}", "tokens_per_step": TOKENS_PER_STEP, "steps": steps,
            "seed": seed, "model": MODEL, "curriculum": {"name": "grow-p2", "cycles": 1},
            "data": {"train": method, "validation": "validation"},
            "optimizer": {"lr": 2e-3}, "log": {"every": 1, "plot_every": 0},
            "schedule": {"warmup_steps": max(1, steps // 20), "floor": 2e-5},
            "evaluation": {"every": max(1, steps // EVALUATIONS), "documents": 64},
        },
        folder,
    )  # fmt: skip


def seconds_a_step(folder: Path, method: str) -> float:
    """Mean seconds over the lengths that a short run draws, each length by its median."""
    outcome = train(config(folder, method, f"probe-{method}", PROBE_STEPS, 0))
    by_length: dict[float, list[float]] = {}
    for record in read_log(outcome.folder / NAME, "train"):
        by_length.setdefault(record["length"], []).append(record["seconds"])
    count = sum(map(len, by_length.values()))
    return sum(statistics.median(each) * len(each) for each in by_length.values()) / count


def run(folder: Path, method: str, budget: str, steps: int, seed: int) -> dict[str, Any]:
    """Trains, or reads what was trained, and tells how it went: `curve` is (seconds, D, L)."""
    outcome = train(config(folder, method, f"{method}-{budget}-{seed}", steps, seed))
    curve = [
        (each["elapsed"], each["D"], each["L"])
        for each in read_log(outcome.folder / NAME, "evaluation")
    ]
    costs = list(read_log(outcome.folder / NAME, "cost"))
    found = {"method": method, "budget": budget, "seed": seed, "steps": steps,
             "tokens": curve[-1][1], "seconds": curve[-1][0], "loss": curve[-1][2],
             "curve": curve}  # fmt: skip
    return found | ({"cost_error": costs[0]["error"]} if costs else {})


def compare(
    folder: Path, seeds: Sequence[int], minutes: float, methods: Sequence[str] = METHODS,
    budgets: Sequence[str] = BUDGETS,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """All runs, the baseline of each seed first."""
    build_all(folder)
    plan = folder / "plan.json"
    if not plan.exists():
        write_json(plan, {"steps": max(20, round(60 * minutes / seconds_a_step(folder, BASELINE)))})
    steps = int(read_json(plan)["steps"])
    for seed in seeds:
        baseline = run(folder, BASELINE, "tokens", steps, seed)
        yield baseline
        for method in methods:
            rate = 0.0
            for budget in budgets:
                wanted = steps
                if budget != "tokens":
                    # From the run of equal tokens if there is one: it drew every length.
                    share = 0.5 if budget == "half" else 1.0
                    rate = rate or seconds_a_step(folder, method)
                    wanted = max(20, round(share * baseline["seconds"] / rate))
                found = run(folder, method, budget, wanted, seed)
                rate = rate or found["seconds"] / wanted
                reached = [at for at, _, loss in found["curve"] if loss <= baseline["loss"]]
                yield found | {"reached": reached[0] if reached else None}


def main() -> None:
    parser = argparse.ArgumentParser(description="train by length and by chopping")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--budgets", nargs="*", default=BUDGETS)
    chosen = parser.parse_args()
    for found in compare(
        chosen.folder, range(chosen.seeds), chosen.minutes, chosen.methods, chosen.budgets
    ):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
