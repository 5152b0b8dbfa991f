"""A small domain in the last 15% of training, over all of it, and never.

The base is functions of Python's library, the domain functions of networkx.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reproduction import tiny
from benchmarks.reproduction.harness import Found, Note, Row, check
from benchmarks.reproduction.sequences.taught import fitting, mean, tokens

from lengthwise.sequences.files import written_aside

KINDS, SEEDS = ("base", "domain"), (0, 1)


def column(kind: str, seed: int) -> str:
    return f"{kind}, seed {seed}"


@check({"domain read": "", **{column(kind, seed): ".2f" for kind in KINDS for seed in SEEDS}})
def upsampling(folder: Path, seeds: tuple[int, ...] = SEEDS) -> Iterator[Found]:
    """networkx as the domain: in the last 15% of one epoch, over all of it, or never."""
    paths = tiny.files("networkx")
    domain = tiny.documents(folder, "domain", [p for i, p in enumerate(paths) if i % 4 == 1], 6000)
    library, validation = tiny.library(folder)
    base = folder / "base.jsonl"
    if not base.exists():
        lines = library.read_text(encoding="utf-8").splitlines(keepends=True)
        random.Random(0).shuffle(lines)
        with written_aside(base) as aside:
            aside.write_text("".join(lines[: len(lines) // 8]), encoding="utf-8")
    held_out = tiny.documents(folder, "domain-validation", paths[::4], 6000)
    sets = {"base": tokens(folder, validation), "domain": tokens(folder, held_out)}
    end = tiny.encoder(folder).end
    chosen = {name: fitting(each) for name, each in sets.items()}
    rows, extra = (tiny.data(folder, each, "concat", length=512) for each in (base, domain))
    yield Note(corpus=tiny.fingerprint(library))
    for name, share, weight in (("never", 0.15, 0.0), ("late", 0.15, 0.5),
                                ("all along", 1.0, 0.075)):  # fmt: skip
        row: Row = {"domain read": name}
        for seed in seeds:
            other: dict[str, Any] = {"epochs": 1, "seed": seed, "tokens_per_step": 512}
            if weight:
                domains = {"d": {"data": extra, "weight": weight}}
                other["upsampling"] = {"share": share, "domains": domains}
            kept = f"upsampling-{name.replace(' along', '')}-{seed}"
            model = tiny.trained(tiny.run(folder, kept, rows, **other))
            for kind, texts in chosen.items():
                found = [float(tiny.losses(model, [end], each).mean()) for each in texts]
                row[column(kind, seed)] = mean(found)
        yield row
