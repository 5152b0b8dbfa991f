"""LongProc's countdown: reach a number from four, and write the search down.

Ye and others, "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
2025, arXiv:2501.05414. A solution is three equations, each of two numbers that are left. Without a
right one, the search is compared line by line: what is picked must be the same, and of what is
tried the left side, and whether the branch is dropped.

Equations are parsed, never run: the released code evaluates what the model wrote.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence as Seq
from fractions import Fraction

from lengthwise.evaluation.scorers.procedures import NOTHING, ProcedureScores
from lengthwise.evaluation.scorers.replies import tagged

# Longer sides are no sums of two numbers.
MOST_CHARACTERS = 60
_TITLE = "# Search Procedure"
_FOUND = "Now we have found the target"
_DROPPED = "drop this branch"
_ACTIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def countdown(
    reply: str, search: str, *, numbers: Seq[int], target: int, compat: bool = False
) -> ProcedureScores:
    """A solution between <Solution> tags, or else the search for it: LongProc (arXiv:2501.05414).

    Args:
        reply: by a model; its search stands behind "# Search Procedure".
        search: the right reply, with its search behind the same title.
        numbers: each may be used once.
        target: what the last equation must give.
        compat: the last line that was compared never counts, so that a search without a fault is
            short of 1, as in the released code; one without a line to compare is below 0.

    Returns:
        Partial: 1 for a right solution, else leading lines of the search that are right.
    """
    solution = tagged(reply, "Solution")
    if solution is not None and solves(solution, numbers, target):
        return ProcedureScores(1.0, 1.0, True)
    if _TITLE not in reply:
        return ProcedureScores(0.0, 0.0, True) if solution is not None else NOTHING
    right = search.split(_TITLE)[-1].split(_FOUND)[0]
    partial = _search(reply.split(_TITLE)[-1], right, compat)
    return ProcedureScores(0.0, partial, solution is not None)


def solves(solution: str, numbers: Seq[int], target: int) -> bool:
    """Whether equations lead from the numbers to the target: LongProc (arXiv:2501.05414).

    One less than there are numbers: three of the published four.

    Args:
        solution: a line an equation, such as "40 - 19 = 21".
        numbers: each is used once; results join them.
        target: what must be left.
    """
    lines = solution.split("\n")
    if len(lines) != len(numbers) - 1:
        return False
    left = list(numbers)
    for line in lines:
        parsed = equation(line)
        if parsed is None:
            return False
        first, second, result = parsed
        for used in (first, second):
            if used not in left:
                return False
            left.remove(used)
        left.append(result)
    return left[0] == target


def equation(line: str) -> tuple[int, int, int] | None:
    """The two numbers and the result of a right equation; None where it is wrong or no equation.

    Of LongProc (arXiv:2501.05414). Read from the syntax tree: one of + - * / between two integers.

    Args:
        line: such as "40 - 19 = 21".
    """
    left, equals, right = line.strip().partition("=")
    if not equals or max(len(left), len(right)) > MOST_CHARACTERS:
        return None
    try:
        tree = ast.parse(left.strip(), mode="eval").body
        result = int(right)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    action = _ACTIONS.get(type(tree.op)) if isinstance(tree, ast.BinOp) else None
    if action is None or not isinstance(tree, ast.BinOp):
        return None
    first, second = _integer(tree.left), _integer(tree.right)
    if first is None or second is None or (isinstance(tree.op, ast.Div) and second == 0):
        return None
    right_result = action(Fraction(first), Fraction(second)) == result
    return (first, second, result) if right_result else None


def _integer(node: ast.expr) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _integer(node.operand)
        return None if inner is None else -inner
    found = node.value if isinstance(node, ast.Constant) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _search(said: str, right: str, compat: bool) -> float:
    first, *lines = said.strip().split("\n")
    right_first, *wanted = right.strip().split("\n")
    if first != right_first:
        return 0.0
    pairs = list(zip(lines, wanted, strict=False))
    hits = next((n for n, pair in enumerate(pairs) if not _same(*pair)), len(pairs))
    if compat and hits == len(pairs):
        hits -= 1
    return hits / len(wanted) if wanted else 1.0


def _same(said: str, right: str) -> bool:
    if said == right:
        return True
    if "Pick two numbers" in right or "|- Try" not in right:
        return False
    same_action = said.split("=")[0] == right.split("=")[0]
    return same_action and (_DROPPED in said) == (_DROPPED in right)


__all__ = ["MOST_CHARACTERS", "countdown", "equation", "solves"]
