"""What rows say of each recipe; rows as lines of JSON."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.metrics.scores import at_every_length, costs_of, recipes_in, scores_of


def row(recipe: str, number: int, score: float | None, **more: object) -> SampleRow:
    return SampleRow("needle", recipe, 512, number, score=score, **more)  # type: ignore[arg-type]


def test_a_row_is_a_line_of_json_and_back() -> None:
    one = row("full", 3, 0.5, depth=0.25, references=("a", "b"), scores={"x": 0.5}, said="ü\u2028")
    assert SampleRow.read(one.to_json()) == one
    assert one.key == ("needle", 512, 0.25, 3, "full")
    for damaged in ("[]", "{", '{"task": "x"}', "[" * 100_000, "3"):
        with pytest.raises(ValueError):
            SampleRow.read(damaged)


def test_recipes_are_held_against_full_on_the_samples_that_both_answered() -> None:
    rows = [row("snapkv", n, 0.0) for n in range(8)] + [row("full", n, 1.0) for n in range(6)]
    rows += [row("kivi", 0, None, refused="too long")]
    assert recipes_in(rows) == ["full", "snapkv", "kivi"]
    full, snapkv, kivi = scores_of(rows)
    assert full.against is None and full.mean is not None and full.mean.value == 1
    assert snapkv.against is not None and snapkv.against.n == 6 and snapkv.against.value == -1
    assert snapkv.loses and not snapkv.wins
    assert kivi.mean is None and kivi.refused == 1 and not kivi.loses


def test_costs_are_of_what_was_answered() -> None:
    rows = [row("full", n, 1.0, ttft_s=s, kv_bytes=b, over=n == 0, cut_tokens=n)
            for n, (s, b) in enumerate([(1.0, 10), (9.0, 20), (2.0, 60)])]  # fmt: skip
    rows.append(row("full", 3, None, refused="no", ttft_s=None))
    (cost,) = costs_of(rows)
    assert (cost.ttft_s, cost.kv_bytes, cost.over, cost.cut) == (2.0, 30, 1, 2)
    assert cost.tokens_per_s is None


def test_copies_of_a_question_are_one_sample_of_intervals_and_tests() -> None:
    # Two questions, right and wrong under full, of ten replies each; and the same asked once.
    many = [
        row(recipe, 10 * n + copy, score, problem=f"p{n}")
        for recipe, scores in (("full", (1.0, 1.0)), ("kivi", (0.0, 1.0)))
        for n, score in enumerate(scores) for copy in range(10)
    ]  # fmt: skip
    once = [each for each in many if each.number % 10 == 0]
    assert scores_of(many) == scores_of(once)
    (_, kivi) = scores_of(many)
    assert kivi.mean is not None and kivi.mean.n == 2 and not kivi.loses
    assert (kivi.mean.low, kivi.mean.high) == pytest.approx((0.0945, 0.9055), abs=1e-4)
    # Without a sign each sample is one, as are samples of other questions.
    apart = [SampleRow.read(each.to_json().replace('"problem": "p', '"x": "')) for each in many]
    assert scores_of(apart)[1].mean != kivi.mean and scores_of(apart)[1].loses


def test_replies_of_a_question_that_differ_are_its_mean() -> None:
    rows = [row("full", n, float(n < 3), problem="a" if n < 4 else "b") for n in range(5)]
    (full,) = scores_of(rows)
    assert full.mean is not None and (full.mean.value, full.mean.n) == (0.375, 2)


def test_lengths_are_compared_over_tasks_that_were_asked_at_each() -> None:
    rows = [SampleRow(task, "full", length, 0, score=1.0)
            for task, length in (("a", 1), ("a", 2), ("hard", 2))]  # fmt: skip
    assert at_every_length(rows) == (rows[:2], ["hard"])
    assert at_every_length(rows[:2]) == (rows[:2], [])
    assert at_every_length([rows[0], rows[2]]) == ([], ["a", "hard"])
