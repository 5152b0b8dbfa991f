"""pass@k over the rows of a run."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.pass_at import pass_at
from lengthwise.evaluation.metrics.sample_row import SampleRow


def rows(recipe: str, question: str, passed: int, of: int) -> list[SampleRow]:
    scores = [{"passed": float(n < passed)} for n in range(of)]
    return [
        SampleRow("mbpp/full", recipe, 4096, n, question=question, scores=each)
        for n, each in enumerate(scores)
    ]


def test_the_mean_over_problems_of_the_unbiased_estimate() -> None:
    run = [*rows("full", "a", 3, 10), *rows("full", "b", 0, 10), *rows("kivi", "a", 10, 10)]
    other = SampleRow("needle", "full", 4096, 0, scores={"contains_all": 1.0})
    full, kivi = pass_at([*run, other], 5)
    assert full.mean.value == pytest.approx(0.9167 / 2, abs=1e-4)
    assert (full.problems, full.replies, full.k) == (2, 10, 5)
    assert (kivi.recipe, kivi.mean.value, kivi.problems) == ("kivi", 1.0, 1)
    assert pass_at(run, 1)[0].mean.value == pytest.approx(0.15)


def test_too_few_replies_and_runs_without_programs_are_said() -> None:
    with pytest.raises(LengthwiseError, match=r"a problem has 2 replies; .* mbpp\(replies=3, temp"):
        pass_at(rows("full", "a", 1, 2), 3)
    with pytest.raises(LengthwiseError, match="no program was scored"):
        pass_at([SampleRow("needle", "full", 4096, 0)], 1)
