"""LongProc's procedures: what was written out at length, checked by rules.

Ye and others, "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
2025, arXiv:2501.05414. Each gives accuracy, a partial score, and whether there was anything to
score.

    route        path traversal: lines between <Route> tags
    beliefs      theory of mind: lines that begin with a hyphen
    travel       travel planning: a plan between <Plan> tags, or the procedure before it
    countdown    in a file of its own: equations between <Solution> tags, or the search
    row_scores   HTML to TSV, in `rows`
    program      pseudo-code to code: what a sandbox saw a program print

Nothing here runs what a model wrote.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from lengthwise.evaluation.scorers.matching import plain_words
from lengthwise.evaluation.scorers.orders import matched_prefix
from lengthwise.evaluation.scorers.replies import tagged

MOST_TESTS = 10
_BELIEF_MARKS = str.maketrans("", "", string.punctuation + "’")
_BELIEF_WORDS = re.compile(
    r"\b(?:a|an|the|on|in|at|step|thinks?|believes?|is|are|of|location|knows?|belief)\b"
)
_PROCEDURE = "<Solving Procedure>"
_HANDOVER = "Output the plan in the required format:"


@dataclass(frozen=True, slots=True)
class ProcedureScores:
    """accuracy: 0 or 1. partial: 0 to 1. extracted: whether there was anything to score."""

    accuracy: float
    partial: float
    extracted: bool


NOTHING = ProcedureScores(0.0, 0.0, False)


def route(reply: str, reference: str, *, compat: bool = False) -> ProcedureScores:
    """A path of cities, line by line: LongProc (arXiv:2501.05414).

    Args:
        reply: by a model, the path between <Route> tags.
        reference: the right path.
        compat: the partial score counts the first wrong line as right, as the released code does.

    Returns:
        Partial: leading lines that are right over those of the reference.
    """
    said, right = tagged(reply, "Route"), reference.strip()
    if said is None:
        return NOTHING
    if said == right:
        return ProcedureScores(1.0, 1.0, True)
    lines, wanted = said.split("\n"), right.split("\n")
    partial = matched_prefix(lines, wanted)
    if compat and lines[: len(wanted)] != wanted[: len(lines)]:
        partial += 1 / len(wanted)
    return ProcedureScores(0.0, partial, True)


def beliefs(reply: str, reference: str) -> ProcedureScores:
    """Who believes what, step by step: LongProc's theory of mind (arXiv:2501.05414).

    Lines that begin with a hyphen are compared, without case, punctuation and small words.

    Args:
        reply: by a model.
        reference: the right trace.

    Returns:
        Partial: the index of the first difference over the lines of the reference.
    """
    said, right = _belief_lines(reply), _belief_lines(reference)
    return ProcedureScores(float(said == right), matched_prefix(said, right), bool(said))


def travel(
    reply: str, procedure: str, *, cities: Seq[str], days: Seq[int], compat: bool = False
) -> ProcedureScores:
    """A plan of cities and days, or else the search for it: LongProc (arXiv:2501.05414).

    The plan between <Plan> tags is read as NaturalPlan (Zheng and others, 2024, arXiv:2406.04520)
    reads it, and must have all cities and stays.

    Args:
        reply: by a model.
        procedure: the right reply, with its search behind <Solving Procedure>.
        cities: the right cities in their order.
        days: the right stays, in days.
        compat: the last line that was compared never counts, so that a search without a fault is
            short of 1, as in the released code.

    Returns:
        Partial: 1 for a right plan, else leading lines of the search that stand in the reply's.
    """
    plan = tagged(reply, "Plan")
    right = list(zip(cities, days, strict=True))
    if plan is not None and read_plan(plan)[: len(right)] == right:
        return ProcedureScores(1.0, 1.0, True)
    lines, wanted = _search_lines(reply), _search_lines(procedure)
    said = [" ".join(plain_words(line)) for line in lines]
    hits = 0
    for line, given in zip(wanted, said, strict=False):
        if " ".join(plain_words(line)) not in given:
            break
        hits += 1
    if compat and hits == min(len(lines), len(wanted)):
        hits = max(hits - 1, 0)
    return ProcedureScores(0.0, hits / len(wanted), plan is not None)


def read_plan(plan: str) -> list[tuple[str, int]]:
    """Cities and stays of a plan: NaturalPlan (Zheng and others, 2024, arXiv:2406.04520).

    Flights name their day and both cities; a stay is from flight to flight, both days counted.

    Args:
        plan: lines such as "**Day 1-3:** Visit Rome" and "**Day 3:** Fly from Rome to Oslo".

    Returns:
        A city and its days each; empty where there are no days or no flights.
    """
    total, last, flights = None, None, []
    for line in plan.split("\n"):
        asked = re.search(r"European cities for (\d+) days", line)
        total = int(asked[1]) if asked else total
        stay = re.search(r"\d+-(\d+)", line)
        if stay:
            last = int(stay[1])
            if last == total:
                break  # Another plan may follow.
        flight = re.match(r".*Day (\d+).*from (\w+) to (\w+)", line)
        if flight:
            flights.append((int(flight[1]), flight[2], flight[3]))
    if last is None or not flights:
        return []
    visited = [flights[0][1], *(to for _, _, to in flights)]
    turns = [1, *(day for day, _, _ in flights), last]
    return [
        (city, end - start + 1)
        for city, start, end in zip(visited, turns[:-1], turns[1:], strict=True)
    ]


def program(printed: Seq[str | None], expected: Seq[Seq[str]]) -> ProcedureScores:
    """What a program printed for each test, which must be right to the letter: arXiv:2501.05414.

    A sandbox compiles and runs it, for 3 seconds a test; `replies.code_block` finds it in a reply.

    Args:
        printed: standard output of each test; None where it did not end or failed.
        expected: the lines that each test wants. Only the first 10 tests count.

    Returns:
        Partial: the share of tests that are right, for which the authors take the accuracy.
    """
    tests = list(expected)[:MOST_TESTS]
    hits = sum(
        said == "".join(f"{line}\n" for line in right)
        for said, right in zip(printed, tests, strict=False)
    )
    share = hits / len(tests) if tests else 0.0
    return ProcedureScores(float(share == 1), share, bool(printed))


def _belief_lines(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip().startswith("-")]
    if lines:
        # Only the first may be indented.
        lines[0] = lines[0].lstrip()
    said = (_belief(line) for line in lines if line.startswith("-"))
    return [each for each in said if each]


def _belief(line: str) -> str:
    return " ".join(_BELIEF_WORDS.sub(" ", line.lower().translate(_BELIEF_MARKS)).split())


def _search_lines(text: str) -> list[str]:
    text = text.replace(_HANDOVER, "")
    parts = text.split(_PROCEDURE)
    if len(parts) > 1:
        text = _PROCEDURE + parts[1]
    return [line.rstrip() for line in text.strip().split("\n") if line.strip()]


__all__ = [
    "MOST_TESTS", "NOTHING", "ProcedureScores", "beliefs", "program", "read_plan", "route",
    "travel",
]  # fmt: skip
