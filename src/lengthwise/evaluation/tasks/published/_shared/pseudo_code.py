"""LongProc's pseudo-code to code: C++ that is compiled and run in the sandbox.

Ye and others, "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
COLM 2025, arXiv:2501.05414; the problems are those of SPoC (Kulal and others, 2019,
arXiv:1906.04908). The reply's block of cpp gets the headers that the prompt promises, is compiled
by `g++ -std=c++11 -O`, and run on up to 10 tests for 3 seconds each. What it prints must be right
to the letter.

Ours differs: a compiler that is not g++ serves too, and the partial score is the share of tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence as Seq

from lengthwise.evaluation.sandbox.cpp import compiled, compiler_missing
from lengthwise.evaluation.sandbox.limits import Limits, Ran
from lengthwise.evaluation.sandbox.run import code_missing
from lengthwise.evaluation.scorers.procedures import (
    MOST_TESTS,
    NOTHING,
    ProcedureScores,
    program,
)
from lengthwise.evaluation.scorers.replies import code_block

KIND = "pseudo_to_code"
COLUMNS = ("pseudocode_lines", "code_lines", "testcases")
LEVELS = ("0.5k", "2k")
_HEADERS = (
    "cstdio", "iostream", "vector", "algorithm", "numeric", "cmath", "cstring", "set", "map",
    "queue", "stack", "list", "fstream", "climits", "cassert", "iomanip", "sstream", "bitset",
)  # fmt: skip
_BEFORE = "".join(f"#include <{name}>\n" for name in _HEADERS) + "using namespace std;\n"
_LIMITS = Limits(seconds=3.0)


def missing() -> str:
    """What it needs beside its data that is not there, in words that follow "needs"."""
    return code_missing() or compiler_missing()


def facts_of(row: Mapping[str, object]) -> dict[str, object]:
    """What its score needs: inputs and outputs of the first tests, in lines.

    Raises:
        ValueError: for tests of another form.
    """
    tests = row["testcases"]
    if not isinstance(tests, list) or not all(map(_pair, tests)) or not tests:
        raise ValueError("column 'testcases' holds no list of lines of input and of output")
    return {"tests": tests[:MOST_TESTS]}


def _pair(test: object) -> bool:
    """Whether it is two lists of lines."""
    halves = test if isinstance(test, list | tuple) and len(test) == 2 else [None]
    return all(
        isinstance(half, list | tuple) and all(isinstance(line, str) for line in half)
        for half in halves
    )


def code_scores(
    said: str, tests: Seq[tuple[Seq[str], Seq[str]]], *, compat: bool = True
) -> ProcedureScores:
    """Whether the program of a reply prints what it should: LongProc (arXiv:2501.05414).

    Args:
        said: the reply, with a block of cpp.
        tests: lines of input, and lines that are wanted.
        compat: what a program printed counts whatever its exit code is, as in the released code.
    """
    code = code_block(said, "cpp")
    if code is None:
        return NOTHING
    made = compiled(_BEFORE + code)
    if made.binary is None:
        return ProcedureScores(0.0, 0.0, True)
    runs = _runs((made.run("\n".join(given) + "\n", _LIMITS) for given, _ in tests), compat)
    printed = [*runs, *[None] * len(tests)][: len(tests)]
    return program(printed, [wanted for _, wanted in tests])


def _runs(found: Iterator[Ran], compat: bool) -> Iterator[str | None]:
    """What each run printed. None runs behind one that took too long."""
    for each in found:
        ended = each.verdict == "ended" or (compat and each.verdict in ("failed", "killed"))
        try:
            yield each.stdout.decode() if ended else None
        except UnicodeDecodeError:
            yield None
        if each.verdict == "timeout":
            return


__all__ = ["COLUMNS", "KIND", "LEVELS", "code_scores", "facts_of", "missing"]
