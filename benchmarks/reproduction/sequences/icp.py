"""In-context pretraining: related documents in a row against strangers; see subjects.py."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction import tiny
from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.sequences.subjects import document, encoder, ids_of, subjects, write
from benchmarks.reproduction.sequences.taught import (
    COUNT,
    ROW,
    RUN,
    TINY,
    fitting,
    gain,
    loss,
    mean,
    tokens,
)


@check({"order": "", "alone": ".2f", "behind its own subject": ".2f", "behind another": ".2f",
        "gain of its own over another": ".2f"})  # fmt: skip
def icp(folder: Path, seed: int = 0) -> Iterator[Found]:
    """A document alone, behind one of its own subject, and behind one of another."""
    words, chance = encoder(folder), random.Random(1)
    end, ids = words.end, ids_of(words)
    learned = [document(s, 24, chance) for s in subjects(2400, seed=1) for _ in range(10)]
    source = write(folder / "related.jsonl", learned)
    two = [[ids(document(s, 24, chance)) for _ in range(2)] for s in subjects(COUNT, seed=2)]
    for order in ("shuffle", "icp"):
        rows = tiny.data(folder, source, "concat", order, ROW, words)
        model = tiny.trained(tiny.run(folder, f"concat-{order}-{seed}", rows, seed=seed, **RUN))
        found: dict[str, list[float]] = {"alone": [], "related": [], "stranger": []}
        for number, (other, own) in enumerate(two):
            stranger = two[number - COUNT // 2][0]
            for name, before in (("alone", [end]), ("related", [end, *other, end]),
                                 ("stranger", [end, *stranger, end])):  # fmt: skip
                found[name].append(loss(model, before, own))
        yield {
            "order": f"`{order}`", "alone": mean(found["alone"]),
            "behind its own subject": mean(found["related"]),
            "behind another": mean(found["stranger"]),
            "gain of its own over another": gain(found["stranger"], found["related"]),
        }  # fmt: skip


@check({"documents": "", "alone": ".2f", "behind itself": ".2f", "gain": ".2f"})
def copying(folder: Path, seed: int = 0) -> Iterator[Found]:
    """A function alone, and right behind itself: what real text teaches of looking back."""
    train_on, validation = tiny.library(folder)
    end, chosen = tiny.encoder(folder).end, fitting(tokens(folder, validation))
    rows = tiny.data(folder, train_on, "concat", length=512)
    model = TINY | {"hidden_size": 128, "intermediate_size": 336, "num_attention_heads": 4,
                    "num_key_value_heads": 4}  # fmt: skip
    place = tiny.run(folder, f"copying-{seed}", rows, model=model, tokens_per_step=512, steps=2000,
                     seed=seed)  # fmt: skip
    reader = tiny.trained(place)
    alone = [loss(reader, [end], each) for each in chosen]
    behind = [loss(reader, [end, *each, end], each) for each in chosen]
    yield Note(corpus=tiny.fingerprint(train_on))
    yield {"documents": len(chosen), "alone": mean(alone), "behind itself": mean(behind),
           "gain": gain(alone, behind)}  # fmt: skip
