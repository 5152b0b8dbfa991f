"""What rows say of each recipe; rows as lines of JSON."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.metrics.scores import costs_of, recipes_in, scores_of


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
