"""Problems whose replies are programs, in the published formats and words of our own."""

from __future__ import annotations

from typing import Any

DOUBLE: dict[str, Any] = {
    "task_id": "HumanEval/0",
    "prompt": 'from math import floor\n\n\ndef double(x):\n    """Twice x, rounded down."""\n',
    "canonical_solution": "    return floor(2 * x)\n",
    "test": "def check(f):\n    assert f(2.3) == 4\n    assert f(-1) == -2\n",
    "entry_point": "double",
}
LAST: dict[str, Any] = {
    "task_id": "HumanEval/1",
    "prompt": 'def last(items):\n    """The last item.\n    >>> last([1, 2])\n    2\n    """\n',
    "canonical_solution": "    return items[-1]\n",
    "test": "def check(candidate):\n    assert candidate([1, 2, 3]) == 3\n",
    "entry_point": "last",
}


def mbpp_row(number: int, name: str = "", **more: Any) -> dict[str, Any]:
    """A task of MBPP: a function that gives its number."""
    name = name or f"number_{number}"
    return {
        "text": f"Write a function that gives {number}.", "task_id": number,
        "code": f"def {name}():\r\n    return {number}", "test_setup_code": "",
        "test_list": [f"assert {name}() == {number}", f"assert {name}() != {number + 1}"],
        "challenge_test_list": [], **more,
    }  # fmt: skip


def sanitized_row(number: int) -> dict[str, Any]:
    """The same as the sanitized file has it."""
    row = mbpp_row(number)
    kept = {name: row[name] for name in ("task_id", "code", "test_list")}
    return {"source_file": "a", "prompt": row["text"], "test_imports": ["import math"], **kept}
