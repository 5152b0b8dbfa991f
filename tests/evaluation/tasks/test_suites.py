"""Sets of tasks by one name."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import BENCHMARKS
from lengthwise.evaluation.tasks.suites import SUITES, suite_of


def test_a_suite_is_its_benchmarks_with_their_options() -> None:
    assert suite_of("kick") == ["kick"]
    assert suite_of("kick(data=/a/b, compat=false)") == ["kick(data=/a/b, compat=false)"]
    assert suite_of("code(chat=true)") == ["humaneval(chat=true)", "mbpp(chat=true)"]
    for suite in SUITES:
        assert all(name in BENCHMARKS for name in suite_of(suite))


def test_synthetic_is_all_that_needs_no_data() -> None:
    found = suite_of("synthetic")
    assert {"needle", "ruler", "kv", "procedures"} <= set(found)
    assert not {"kick", "longbench", "mbpp", "longproc"} & set(found)
    with pytest.raises(LengthwiseError, match="synthetic takes no options"):
        suite_of("synthetic(needles=2)")


@pytest.mark.parametrize("wrong, said", [
    ("kik", "did you mean 'kick'"), ("", "known are kick, code, synthetic"),
    ("(data=x)", "there is no suite ''"), ("synthetics", "did you mean 'synthetic'"),
])  # fmt: skip
def test_an_unknown_suite_has_a_nearest(wrong: str, said: str) -> None:
    with pytest.raises(LengthwiseError, match=said):
        suite_of(wrong)
