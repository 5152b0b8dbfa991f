"""All checks of one method, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field

from lengthwise.methods.base import Method
from lengthwise.testing.checks import (
    Check,
    Expected,
    MethodLike,
    checks_for,
    class_of,
    expected_reason,
    refused,
)
from lengthwise.testing.laws import FAMILIES, ConformanceError, law_model


@dataclass(frozen=True)
class Failure:
    """A check that failed: its id, what was found, and what to look at.

    expected: the reason why it may fail; None where it may not.
    """

    check: str
    found: str
    hint: str
    expected: str | None = None


@dataclass
class Report:
    """What came of the checks of a method.

    passed: ids of checks. failures: those that failed, and were not expected to; expected: those
    that were. unexpected: expected failures that passed. refused: families whose models the method
    refuses, with the reason.
    """

    name: str
    passed: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    expected: list[Failure] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed that was not expected to."""
        return not self.failures

    @property
    def checked(self) -> int:
        """How many checks ran: none where every model refuses the method."""
        failed = len(self.failures) + len(self.expected)
        return len(self.passed) + len(self.unexpected) + failed

    def require(self) -> Report:
        """The report itself; raises ConformanceError, which tells all, where something failed."""
        if self.failures:
            raise ConformanceError(str(self))
        return self

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.failures)} of {self.checked} checks failed"]
        if not self.checked:
            lines = [f"{self.name}: nothing was checked, for no model here can run it"]
        elif self.ok:
            lines = [f"{self.name}: conforms, {len(self.passed)} checks passed"]
        for failure in self.failures:
            lines += [f"  FAILED {failure.check}: {failure.found}", f"    hint: {failure.hint}"]
        lines += [f"  failed as expected {each.check}: {each.expected}" for each in self.expected]
        lines += [f"  passed, though expected to fail: {check}" for check in self.unexpected]
        lines += [f"  refused on {line}" for line in self.refused]
        return "\n".join(lines)


def check_method(
    method: MethodLike,
    families: Seq[str] = FAMILIES,
    expected_failed: Expected | None = None,
    only: Callable[[Check], bool] = lambda _: True,
) -> Report:
    """Runs all checks of a method, registered or not, and gathers what failed.

    Args:
        method: the name of a registered method, or a class.
        families: of the tiny models it is tried on.
        expected_failed: reasons by check ("positions", or "positions-phi") for those that may
            fail.
        only: which checks are run.

    Returns:
        The report; `report.require()` raises ConformanceError where something failed.

    Raises:
        RecipeError: there is no method of that name.
    """
    cls = class_of(method)
    report, out = Report(cls.name), set()
    for family in families:
        refusal = refused(cls, law_model(family))
        if refusal is not None:
            report.refused.append(f"{family}: {refusal}")
            out.add(family)
    for _, check in checks_for(cls, families):
        if check.family not in out and only(check):
            _run(cls, check, report, expected_reason(check, expected_failed or {}))
    return report


def _run(cls: type[Method], check: Check, report: Report, reason: str | None) -> None:
    try:
        check.kind.run(cls, law_model(check.family))
    except ConformanceError as error:
        found = str(error)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        found = f"{cls.name} on {check.family}: {type(error).__name__}: {line}"
    else:
        (report.passed if reason is None else report.unexpected).append(str(check))
        return
    failure = Failure(str(check), found, check.kind.hint, reason)
    (report.failures if reason is None else report.expected).append(failure)


__all__ = ["Failure", "Report", "check_method"]
