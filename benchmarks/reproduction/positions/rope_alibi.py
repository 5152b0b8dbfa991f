"""A harmonic bias of distance on a model that was trained without one, by its slope."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, load, reference

LAST = 512
LENGTHS = (1024, 4096, 16_384)
SLOPES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


@check({"tokens": ",", "slope": "g", "loss": ".3f"})
def rope_alibi(
    lengths: tuple[int, ...] = LENGTHS, slopes: tuple[float, ...] = SLOPES, stretches: int = 3
) -> Iterator[Found]:
    """The loss of the last 512 tokens of stretches of the default document. Slope 0 is stock
    attention. The model was trained to 8,192 tokens."""
    model = load("bf16")
    document = reference(model)
    for length in lengths:
        for slope in slopes:
            losses = []
            for n in range(stretches):
                start = n * (len(document) - length) // stretches
                ids = document[start : start + length]
                losses.append(-float(model.score(ids, f"rope_alibi(slope={slope})")[-LAST:].mean()))
            yield {"tokens": length, "slope": slope, "loss": sum(losses) / len(losses)}
