"""Countdown: equations are read from their syntax, and nothing is run."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.countdown import countdown, equation, solves

SOLUTION = "5 + 3 = 8\n11 - 8 = 3\n7 * 3 = 21"
NUMBERS = (3, 5, 7, 11)
SEARCH = f"""# Search Procedure
Numbers 3, 5, 7, 11; wanted is 21.
|- Pick two numbers (3, 5)
 |- Try 5 + 3 = 8. Go on.
  |- Try 15 + 11 = 26. Not 21, drop this branch.
  |- Try 7 * 3 = 21. Found.
Now we have found the target:
<Solution>
{SOLUTION}
</Solution>"""


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("40 - 19 = 21", (40, 19, 21)), (" 6/2 = 3 ", (6, 2, 3)), ("7 * 3 = 20", None),
        ("7 / 0 = 1", None), ("7 / 2 = 3", None), ("1 + 2 + 3 = 6", None), ("21 = 21", None),
        ("2 ** 3 = 8", None), ("a + b = 3", None), ("1 + 1", None), ("1 + 1 = 2 = 2", None),
        ("__import__('os').getpid() + 0 = 1", None), ("", None), ("9" * 5000 + " + 1 = 2", None),
        ("(" * 50 + " = 1", None), ("1.0 + 1 = 2", None), ("True + 1 = 2", None),
    ],
)  # fmt: skip
def test_an_equation_is_two_integers_and_a_result(
    line: str, read: tuple[int, int, int] | None
) -> None:
    assert equation(line) == read


def test_each_number_is_used_once() -> None:
    assert solves(SOLUTION, NUMBERS, 21)
    assert not solves(SOLUTION, NUMBERS, 22)
    assert not solves(SOLUTION, (3, 5, 7, 12), 21)
    assert not solves("3 + 3 = 6\n6 + 5 = 11\n11 + 7 = 18", NUMBERS, 18)
    assert not solves("\n".join(SOLUTION.split("\n")[:2]), NUMBERS, 3)


def scored(reply: str, *, compat: bool = False) -> tuple[float, float, bool]:
    found = countdown(reply, SEARCH, numbers=NUMBERS, target=21, compat=compat)
    return found.accuracy, found.partial, found.extracted


def test_a_solution_or_else_the_search_is_scored() -> None:
    search = SEARCH.split("Now we")[0]
    assert scored(SEARCH) == (1, 1, True)
    assert scored(search) == (0, 1, False)
    assert scored(search, compat=True) == (0, 0.75, False)
    assert scored("nothing") == (0, 0, False)
    assert scored("<Solution>\n1 + 1 = 2\n</Solution>") == (0, 0, True)


def test_what_is_tried_and_dropped_must_be_the_same() -> None:
    search = SEARCH.split("Now we")[0]
    assert scored(search.replace("= 26. Not 21, drop", "= 27. So drop"))[1] == 1
    assert scored(search.replace("drop this branch", "go on"))[1] == 0.5
    assert scored(search.replace("15 + 11", "11 + 15"))[1] == 0.5
    assert scored(search.replace("(3, 5)", "(5, 3)"))[1] == 0
    assert scored(search.replace("wanted is 21", "wanted is 22"))[1] == 0


def test_a_search_without_a_line_is_below_zero_in_the_released_code() -> None:
    begun = "# Search Procedure\nNumbers 3, 5, 7, 11; wanted is 21."
    assert scored(begun)[1] == 0
    assert scored(begun, compat=True)[1] == -0.25
