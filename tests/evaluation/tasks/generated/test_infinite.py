"""InfiniteBench: digits in runs, ranks, sums and calls that Python agrees with; their scores."""

from __future__ import annotations

import re
import statistics
from itertools import accumulate, groupby

import pytest

from lengthwise.evaluation.tasks.benchmark import tasks_of
from tests.evaluation.tasks.generated.generated_cases import one, wanted


def test_digits_come_in_runs_and_zeros_count() -> None:
    (task,) = tasks_of("infinite(digits=11)/number_string")
    for sample in task.samples(wanted(400, 20)):
        (key,) = sample.references
        runs = [len(list(run)) for _, run in groupby(key)]
        assert len(key) == 11 and set(runs[:-1]) <= {2, 3} and runs[-1] <= 3
        assert sample.context.count(key) == 2
        assert task.score(f" {key}.", sample) == {"first_int": 1.0}
        assert task.score(f"1 or {key}", sample) == {"first_int": 0.0}
        assert task.score(key.lstrip("0") + "9", sample) == {"first_int": 0.0}


def test_ranks_are_those_of_the_list() -> None:
    (task,) = tasks_of("infinite/math_find")
    kinds = set()
    for sample in task.samples(wanted(600, 30)):
        items = sorted(int(n) for n in re.findall(r"\d+", sample.context))
        asked = sample.question.split("the ")[1].split(" in ")[0]
        kinds.add(asked)
        right = {
            "largest number": items[-1], "second largest number": items[-2],
            "third largest number": items[-3], "smallest number": items[0],
            "second smallest number": items[1], "third smallest number": items[2],
            "median": statistics.median(items),
        }[asked]  # fmt: skip
        assert sample.references == (str(right),)
        assert task.score(f" {right}.", sample) == {"math_find": 1.0}
        assert task.score(f" {right + 1} not {right}", sample) == {"math_find": 0.0}
    assert len(kinds) == 7


def test_a_sum_is_right_after_every_step() -> None:
    task, sample = one("infinite/math_calc", 900)
    terms = sample.context.split("\n\n")[1].replace("- ", "-").replace("+ ", "").split()
    totals = list(accumulate(map(int, terms)))[1:]
    assert sample.references == (", ".join(map(str, totals)),)
    assert all(0 <= each < 1000 for each in totals)
    wrong = [*map(str, totals[: len(totals) // 2]), "5000", *map(str, totals)]
    share = (len(totals) // 2) / len(totals)
    assert task.score(" ".join(wrong), sample) == {"math_calc": pytest.approx(share)}
    # The first number is asked for, too, and may be said again; another one may not.
    first = re.findall(r"\d+", sample.begin)[-1]
    for said, right in ((f"{first}, {sample.references[0]}", 1), (f"{first}0, {totals[0]}", 0)):
        assert task.score(said, sample) == {"math_calc": right}
    # The reply takes about half of the length.
    assert 0.3 < sample.most / 900 < 0.6


@pytest.mark.parametrize("calls", [1, 2, 6])
def test_functions_give_what_python_gives(calls: int) -> None:
    (task,) = tasks_of(f"infinite(calls={calls})/code_run")
    for sample in task.samples(wanted(800, 3)):
        names: dict[str, object] = {}
        exec(sample.context.split("\n\n", 1)[1], names)
        call = re.search(r"func_\d+\(\d+\)", sample.question)
        assert call and str(eval(call[0], names)) == sample.references[0]
        name, called = call[0].split("(")[0], 0
        while name != "x":
            body = re.search(rf"def {name}\(x\):\n    return (\w+)", sample.context)
            name, called = body[1] if body else "x", called + 1
        assert called == calls
        assert task.score(f" 12, so {sample.references[0]}.", sample) == {"code_run": 1.0}


def test_a_value_is_a_word_of_the_reply() -> None:
    task, sample = one("infinite/kv_retrieval", 800)
    (value,) = sample.references
    assert task.score(f'It is: "{value}".', sample) == {"kv_value": 1.0}
    assert task.score(value[:-1], sample) == {"kv_value": 0.0}
