"""A harmonic bias of distance on a model that was trained without one, by its slope."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, load, reference

STRETCHES, LAST = 3, 512
LENGTHS = (1024, 2048, 4096)
SLOPES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
COLUMNS = {f"{length:,} tokens": ".3f" for length in LENGTHS}


@check({"slope": "g", **COLUMNS})
def rope_alibi(lengths: tuple[int, ...] = LENGTHS) -> Iterator[Found]:
    """The loss of the last 512 tokens of stretches of the default document. Slope 0 is stock
    attention. The model was trained to 8,192 tokens."""
    model = load("bf16")
    document = reference(model)
    for slope in SLOPES:
        found = {}
        for length in lengths:
            losses = []
            for n in range(STRETCHES):
                start = n * (len(document) - length) // STRETCHES
                ids = document[start : start + length]
                losses.append(-float(model.score(ids, f"rope_alibi(slope={slope})")[-LAST:].mean()))
            found[f"{length:,} tokens"] = sum(losses) / len(losses)
        yield {"slope": slope, **found}
