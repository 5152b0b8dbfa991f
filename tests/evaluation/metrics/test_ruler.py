"""RULER's means over lengths, held against rows of its published table."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.metrics.ruler import over_lengths
from lengthwise.evaluation.metrics.sample_row import SampleRow

LENGTHS = (4096, 8192, 16384, 32768, 65536, 131072)
# Scores by length, Avg, wAvg (inc), wAvg (dec) and effective length, as NVIDIA/RULER prints them.
PUBLISHED = {
    "gpt-4-1106-preview": ((96.6, 96.3, 95.2, 93.2, 87.0, 81.2), 91.6, 89.0, 94.1, 65536),
    "gemini-1.5-pro": ((96.7, 95.8, 96.0, 95.9, 95.9, 94.4), 95.8, 95.5, 96.1, 131072),
    "llama3.1-8b": ((95.5, 93.8, 91.6, 87.4, 84.7, 77.0), 88.3, 85.4, 91.3, 32768),
    "llama3.1-70b": ((96.5, 95.8, 95.4, 94.8, 88.4, 66.6), 89.6, 85.5, 93.7, 65536),
    "mistral-nemo": ((87.8, 87.2, 87.7, 69.0, 46.8, 19.0), 66.2, 54.7, 77.8, 16384),
    "lwm-7b": ((82.3, 78.4, 73.7, 69.1, 68.1, 65.0), 72.8, 69.9, 75.7, None),
    "dbrx": ((95.1, 93.8, 83.6, 63.1, 2.4, 0.0), 56.3, 38.0, 74.7, 8192),
}


def of_model(name: str) -> list[SampleRow]:
    """A published row, as two tasks of which one is as much above as the other is below."""
    return [
        SampleRow(f"ruler/{task}", name, length, 0, score=score / 100 + less)
        for length, score in zip(LENGTHS, PUBLISHED[name][0], strict=True)
        for task, less in (("vt", 0.01), ("cwe", -0.01))
    ]


@pytest.mark.parametrize("name", PUBLISHED)
def test_means_are_those_of_the_published_table(name: str) -> None:
    scores, mean, rising, falling, effective = PUBLISHED[name]
    (found,) = over_lengths(of_model(name))
    assert list(found.scores) == list(LENGTHS) and found.tasks == 2
    assert [*found.scores.values()] == pytest.approx([each / 100 for each in scores])
    # Scores are printed rounded to 0.1, and so are means of them.
    for ours, theirs in ((found.mean, mean), (found.rising, rising), (found.falling, falling)):
        assert 100 * (ours or 0) == pytest.approx(theirs, abs=0.1)
    assert found.effective == effective
    assert found.effective_text == ("<4,096" if effective is None else f"{effective:,}")
    assert found.dump()["wavg_inc"] == found.rising and found.dump()["ruler"] == name


def test_the_threshold_is_an_option_and_has_to_be_exceeded() -> None:
    rows = of_model("mistral-nemo")
    assert over_lengths(rows, 0.4)[0].effective == 65536
    assert over_lengths(rows, 0.99)[0].effective is None
    flat = [SampleRow("ruler/vt", "full", length, 0, score=0.5) for length in (1, 2)]
    assert over_lengths(flat, 0.5)[0].effective is None
    assert over_lengths(flat, 0.499)[0].effective == 2


def test_a_length_that_a_recipe_refuses_has_no_mean() -> None:
    rows = [SampleRow("ruler/vt", "full", length, 0, score=1.0) for length in (1, 2, 3)]
    rows[2] = SampleRow("ruler/vt", "full", 3, 0, refused="too long")
    (found,) = over_lengths(rows)
    assert found.scores == {1: 1.0, 2: 1.0, 3: None}
    assert (found.mean, found.rising, found.falling, found.effective) == (None, None, None, 2)


def test_tasks_of_some_lengths_and_other_benchmarks_have_no_say() -> None:
    rows = [SampleRow("ruler(hops=2)/vt", "full", length, 0, score=0.5) for length in (1, 2)]
    rows += [SampleRow("ruler/cwe", "full", 2, 0, score=1.0)]
    rows += [SampleRow("rulers", "full", length, 0, score=1.0) for length in (1, 2)]
    (found,) = over_lengths(rows)
    assert found.tasks == 1 and found.scores == {1: 0.5, 2: 0.5}
    assert over_lengths(rows[:1]) == [] == over_lengths([])
    assert over_lengths([rows[0], rows[2]]) == []
