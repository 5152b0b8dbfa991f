"""A harmonic bias of distance on a model that was trained without one, by its slope."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, load, reference

LAST = 512
LENGTHS = (1024, 4096)
SLOPES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


COLUMNS = {"tokens": ",", "slope": "g", "loss": ".3f"}


def losses(length: int, slopes: tuple[float, ...], stretches: int) -> Iterator[Found]:
    """The loss of the last 512 tokens of stretches of the default document, a row a slope."""
    model = load("bf16")
    document = reference(model)
    starts = [n * (len(document) - length) // stretches for n in range(stretches)]
    for slope in slopes:
        recipe = f"rope_alibi(slope={slope})"
        each = [model.score(document[start : start + length], recipe) for start in starts]
        found = [-float(one[-LAST:].mean()) for one in each]
        yield {"tokens": length, "slope": slope, "loss": sum(found) / len(found)}


@check(COLUMNS)
def rope_alibi(
    lengths: tuple[int, ...] = LENGTHS, slopes: tuple[float, ...] = SLOPES, stretches: int = 3
) -> Iterator[Found]:
    """Losses by slope within the 8,192 tokens that the model was trained to. Slope 0 is stock
    attention."""
    for length in lengths:
        yield from losses(length, slopes, stretches)


@check(COLUMNS)
def beyond(
    length: int = 12_288, slopes: tuple[float, ...] = (0.0, 1.0), stretches: int = 1
) -> Iterator[Found]:
    """The same past the trained length. Scores of n^2 pairs take minutes a stretch and slope."""
    yield from losses(length, slopes, stretches)
