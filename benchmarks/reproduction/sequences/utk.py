"""Untie the Knots against the same stream unknotted, on the made-up documents of subjects.py."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction import tiny
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.sequences.subjects import document, encoder, ids_of, subjects, write
from benchmarks.reproduction.sequences.taught import COUNT, ROW, RUN, gain, loss, mean

from lengthwise.sequences.store import SequenceSet


@check({"rows": "", "near": ".2f", "far": ".2f", "nowhere": ".2f", "gain of near": ".2f",
        "gain of far": ".3f"})  # fmt: skip
def utk(folder: Path, seed: int = 0) -> Iterator[Found]:
    """The end of a document whose beginning stands before it, before three others, or nowhere."""
    words, chance = encoder(folder), random.Random(3)
    end, ids = words.end, ids_of(words)
    learned = [document(s, 64, chance) for s in subjects(32_000, seed=3)]
    source = write(folder / "long.jsonl", learned)
    held_out = [ids(document(s, 64, chance)) for s in subjects(4 * COUNT, seed=4)]
    for method in ("concat", "utk"):
        rows = tiny.data(folder, source, method, length=2 * ROW, words=words)
        place = tiny.run(folder, f"{method}-{seed}", rows, seed=seed, **RUN | {"steps": 1500})
        model = tiny.trained(place)
        added = SequenceSet(folder / rows).manifest["added_tokens"]
        out, into = added.get("<|knot_1_out|>"), added.get("<|knot_1_in|>")
        found: dict[str, list[float]] = {}
        for number, whole in enumerate(held_out[:COUNT]):
            head, tail = whole[:48], whole[48:]
            others = held_out[COUNT + 3 * number : COUNT + 3 * number + 3]
            between = [token for each in others for token in [*each, end]]
            ways = {"near": [end, *head], "far": [end, *head, end, *between],
                    "nowhere": [end, *between]}  # fmt: skip
            if out is not None and into is not None:
                ways |= {"far_knot": [end, *head, out, *between, into],
                         "nowhere_knot": [end, *between, into]}  # fmt: skip
            for way, before in ways.items():
                # Nobody is taught to predict the first token behind a cut.
                found.setdefault(way, []).append(loss(model, [*before, tail[0]], tail[1:]))
        yield {
            "rows": f"`{method}`", "near": mean(found["near"]), "far": mean(found["far"]),
            "nowhere": mean(found["nowhere"]),
            "gain of near": gain(found["nowhere"], found["near"]),
            "gain of far": gain(found["nowhere"], found["far"]),
        }  # fmt: skip
        if "far_knot" in found:
            yield {"rows": f"`{method}`, knots at the cuts", "far": mean(found["far_knot"]),
                   "nowhere": mean(found["nowhere_knot"]),
                   "gain of far": gain(found["nowhere_knot"], found["far_knot"])}  # fmt: skip
