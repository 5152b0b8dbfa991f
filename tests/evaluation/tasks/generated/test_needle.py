"""Needles in a text of the user's: where they stand, and what a reply is worth."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.tasks.benchmark import Wanted, tasks_of

HAY = " ".join(f"This is sentence {n} of a long and quiet text." for n in range(400))


def wanted(depth: float | None = None) -> Wanted:
    return Wanted(3000, 2, 0, len, HAY, depth)


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
def test_a_needle_stands_at_its_depth_between_sentences(depth: float) -> None:
    (task,) = tasks_of("needle")
    for sample in task.samples(wanted(depth)):
        (number,) = sample.references
        assert sample.context.count(number) == 1
        at = sample.context.index("The magic number")
        assert at / len(sample.context) == pytest.approx(depth, abs=60 / 2500)
        assert at == 0 or sample.context[:at].rstrip().endswith(".")
        assert sample.depth == depth and number not in sample.question


def test_several_needles_are_spread_and_each_counts() -> None:
    (task,) = tasks_of("needle(needles=4)")
    sample, _ = task.samples(wanted(0.0))
    places = [sample.context.index(number) / len(sample.context) for number in sample.references]
    assert places == sorted(places)
    assert places == pytest.approx([0, 0.25, 0.5, 0.75], abs=0.05)
    said = " and ".join(sample.references[:3])
    assert task.score(said, sample) == {"contains_all": 0.75}
    assert task.score("", sample) == {"contains_all": 0.0}
    # A model may write its thousands apart.
    assert task.score(f"{int(sample.references[0]):,}", sample) == {"contains_all": 0.25}
    assert task.score(",".join(sample.references), sample) == {"contains_all": 1.0}
    # A longer number is another one.
    assert task.score(f"{sample.references[0]}1", sample) == {"contains_all": 0.0}
