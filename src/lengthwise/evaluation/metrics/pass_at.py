"""pass@k of a run: how often one of k programs for a problem passes.

Chen and others, "Evaluating Large Language Models Trained on Code", 2021, arXiv:2107.03374. Of n
replies to a problem, c of which pass, the chance that one of k drawn ones does; then the mean over
problems.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.differences import Mean, mean_of
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.scorers.aggregates import pass_at_k

FIGURE = "passed"


@dataclass(frozen=True, slots=True)
class PassAt:
    """pass@k of a task and length under a recipe.

    mean: over problems, with its interval. problems: how many. replies: the fewest that one has.
    """

    task: str
    length: int
    recipe: str
    k: int
    mean: Mean
    problems: int
    replies: int


def pass_at(rows: Seq[SampleRow], k: int) -> list[PassAt]:
    """pass@k of all tasks, lengths and recipes of a run whose replies are programs.

    Args:
        rows: of a run; those of other tasks are left out. Rows of one question are one problem.
        k: at most the replies that each problem has.

    Raises:
        LengthwiseError: where no row is a program's, and where a problem has fewer replies.
    """
    found: dict[tuple[str, int, str], dict[str, list[bool]]] = {}
    for row in rows:
        if FIGURE in row.scores:
            problems = found.setdefault((row.task, row.length, row.recipe), {})
            problems.setdefault(row.question, []).append(row.scores[FIGURE] == 1)
    if not found:
        raise LengthwiseError(
            "no program was scored in this run; pass@k is of tasks such as humaneval and mbpp"
        )
    return [_of(*cell, k, list(problems.values())) for cell, problems in found.items()]


def _of(task: str, length: int, recipe: str, k: int, problems: Seq[Seq[bool]]) -> PassAt:
    fewest = min(map(len, problems))
    if k > fewest:
        name = task.partition("(")[0].partition("/")[0]
        raise LengthwiseError(
            f"pass@{k} of {task} under {recipe}: a problem has {fewest} replies; give at most "
            f"{fewest}, or run {name}(replies={k}, temperature=0.8)"
        )
    shares = [pass_at_k(len(each), sum(each), k) for each in problems]
    return PassAt(task, length, recipe, k, mean_of(shares), len(problems), fewest)


__all__ = ["FIGURE", "PassAt", "pass_at"]
