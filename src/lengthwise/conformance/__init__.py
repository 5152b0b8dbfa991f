"""The conformance suite: the same laws for our methods and for anybody's.

    from lengthwise.conformance import check_method
    check_method(MyMethod)            # or its registered name

`python -m lengthwise.conformance NAME...` runs it from a shell, and `--write PATH` measures
what goes with what.
"""

from lengthwise.conformance.laws import (
    FAMILIES,
    LAWS,
    ConformanceError,
    check_batch,
    check_bytes,
    check_drafting_equals_plain,
    check_fork,
    check_identity,
    check_method,
    check_positions,
    check_refusals,
    law_model,
)

__all__ = [
    "FAMILIES",
    "LAWS",
    "ConformanceError",
    "check_batch",
    "check_bytes",
    "check_drafting_equals_plain",
    "check_fork",
    "check_identity",
    "check_method",
    "check_positions",
    "check_refusals",
    "law_model",
]
