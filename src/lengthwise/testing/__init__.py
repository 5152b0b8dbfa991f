"""The conformance suite: the same laws for our methods and for anybody's.

    from lengthwise.testing import check_method, parametrize_with_checks

    print(check_method(MyMethod))            # or its registered name: all failures, with a hint

    @parametrize_with_checks([MyMethod])     # or one pytest case for every check
    def test_conforms(method, check):
        check(method)

`python -m lengthwise.testing NAME` runs it from a shell, as does `module:Class` or `path.py:Class`
for what is not registered; `--write PATH` measures what goes with what.
"""

from lengthwise.testing.checks import KINDS, Check, checks_for, parametrize_with_checks
from lengthwise.testing.laws import (
    FAMILIES,
    LAWS,
    ConformanceError,
    check_batch,
    check_bytes,
    check_drafting_equals_plain,
    check_fork,
    check_identity,
    check_positions,
    check_refusals,
    law_model,
)
from lengthwise.testing.report import Failure, Report, check_method

__all__ = [
    "FAMILIES",
    "KINDS",
    "LAWS",
    "Check",
    "ConformanceError",
    "Failure",
    "Report",
    "check_batch",
    "check_bytes",
    "check_drafting_equals_plain",
    "check_fork",
    "check_identity",
    "check_method",
    "check_positions",
    "check_refusals",
    "checks_for",
    "law_model",
    "parametrize_with_checks",
]
