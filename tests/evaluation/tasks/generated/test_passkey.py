"""A pass key between sentences that say nothing."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.tasks.benchmark import Wanted, tasks_of


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_the_key_stands_at_its_depth_and_is_asked_for(depth: float) -> None:
    (task,) = tasks_of("passkey(digits=7)")
    for sample in task.samples(Wanted(2000, 2, 0, len, "", depth)):
        (key,) = sample.references
        assert len(key) == 7 and sample.context.count(key) == 2
        assert sample.depth == pytest.approx(depth, abs=0.05)
        assert sample.begin not in sample.question


@pytest.mark.parametrize("said, score", [
    ("{key}", 1), ("The key is {key}.", 1), ("{key} or 3", 1), ("3 or {key}", 0), ("", 0),
    ("{key}0", 0),
])  # fmt: skip
def test_the_first_number_of_a_reply_counts(said: str, score: int) -> None:
    (task,) = tasks_of("passkey")
    sample, _ = task.samples(Wanted(900, 2, 0, len, ""))
    reply = said.format(key=sample.references[0])
    assert task.score(reply, sample) == {"first_int": score}
