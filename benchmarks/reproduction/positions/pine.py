"""PINE on passages of which one has the answer: what their order does, in order and without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.reproduction.harness import Found, Note, check, load
from benchmarks.reproduction.positions.ape import (
    HARBOURS,
    PASSAGES,
    TESTING,
    Sample,
    in_order,
    mean,
    samples,
)

from lengthwise.api.model import Model

RECIPE = "pine"
_FEW = 2


def with_right_at(sample: Sample, place: int, count: int) -> Sample:
    """The same with `count` of its passages, the one that has the answer at one place."""
    others = [each for n, each in enumerate(sample.documents) if n != sample.asked]
    chosen = others[: count - 1]
    return replace(
        sample,
        documents=[*chosen[:place], sample.documents[sample.asked], *chosen[place:]],
        asked=place,
    )


def without_order(model: Model, sample: Sample) -> float:
    """The loss of the answer behind passages that are read under the method."""
    session = model.read_apart(sample.documents, RECIPE, prefix=sample.prefix)
    session.append(sample.question)
    return -float(session.score(sample.answer).mean())


def spread(losses: list[list[float]]) -> float:
    """How far the loss of a sample goes with the place of its answer, on average."""
    return mean([max(each) - min(each) for each in losses])


PLACES = {"first": 0, "in the middle": PASSAGES // 2, "last": PASSAGES - 1}
COLUMNS = {"reading": "", **{f"right one {name}": ".3f" for name in PLACES}, "apart": ".3f"}


@check(COLUMNS, two={"reading": "", "right one first": ".3f", "right one last": ".3f",
                     "apart": ".3f"})  # fmt: skip
def pine(count: int = 10) -> Iterator[Found]:
    """The loss of the answer by the place of the passage that has it, of eight and of two."""
    assert len(HARBOURS) >= PASSAGES
    model = load("bf16")
    found = list(samples(model, count, TESTING))
    for table, number, places in (
        ("", PASSAGES, list(PLACES.values())), ("two", _FEW, [0, _FEW - 1]),
    ):  # fmt: skip
        orders = [[with_right_at(each, place, number) for place in places] for each in found]
        ways = {
            "in order": [[in_order(model, o, o.documents) for o in each] for each in orders],
            f"`{RECIPE}`": [[without_order(model, o) for o in each] for each in orders],
        }
        for name, losses in ways.items():
            each = {
                column: mean([row[n] for row in losses])
                for n, column in enumerate(
                    list(COLUMNS)[1:-1] if not table else ["right one first", "right one last"]
                )
            }
            row = {"reading": name, **each, "apart": spread(losses)}
            yield (table, row) if table else row
        ours, theirs = ways[f"`{RECIPE}`"], ways["in order"]
        pairs = zip(ours, theirs, strict=True)
        better = sum(a[0] < mean(b) for a, b in pairs)
        yield Note({f"better_than_mean_order_of_{number}": better})
    yield {
        "reading": "no passages",
        "right one first": mean([in_order(model, each, []) for each in found]),
    }
