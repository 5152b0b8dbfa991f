"""Programs in replies: where they stand, and whether they pass their checks in the sandbox.

Chen and others, "Evaluating Large Language Models Trained on Code", 2021, arXiv:2107.03374
(HumanEval, and pass@k, which is `aggregates.pass_at_k`). Austin and others, "Program Synthesis with
Large Language Models", 2021, arXiv:2108.07732 (MBPP).

This runs what a model wrote. A caller has asked `sandbox.run.code_missing` before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lengthwise.evaluation.sandbox.limits import Limits
from lengthwise.evaluation.sandbox.run import run_python

# HumanEval's seconds for all checks of a problem.
SECONDS = 3.0
_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def fenced(reply: str) -> str | None:
    """The first fenced block of a reply, closed or not; None where there is none.

    Args:
        reply: by a model in a chat.
    """
    found = _FENCED.search(reply)
    return found[1].removesuffix("\n") if found else None


def passes(program: str, checks: str, *, seconds: float = SECONDS) -> Mapping[str, float]:
    """Whether a program passes its checks: HumanEval (arXiv:2107.03374), MBPP (arXiv:2108.07732).

    Args:
        program: Python, with what its prompt began.
        checks: statements that raise where it is wrong.
        seconds: for both.

    Returns:
        "passed", 0 or 1; for one that does not, the sandbox's verdict too, such as "timeout".
    """
    found = run_python(program, checks, limits=Limits(seconds=seconds))
    return {"passed": 1.0} if found.passed else {"passed": 0.0, found.verdict: 1.0}


__all__ = ["SECONDS", "fenced", "passes"]
