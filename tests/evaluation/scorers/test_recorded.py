"""Ours against numbers that the authors' own code gave, on replies of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lengthwise.evaluation.sandbox.cpp import compiler_missing
from lengthwise.evaluation.scorers.aggregates import pass_at_k
from lengthwise.evaluation.scorers.classes import read_entities
from lengthwise.evaluation.scorers.error_lists import read_errors
from lengthwise.evaluation.scorers.preferences import Gamed, length_controlled
from lengthwise.evaluation.scorers.programs import passes
from lengthwise.evaluation.scorers.table import SCORERS
from lengthwise.evaluation.tasks.published._shared.pseudo_code import code_scores
from lengthwise.evaluation.tasks.published.humaneval import HumanEval
from tests.evaluation.tasks.published.code_rows import DOUBLE, LAST

FOLDER = Path(__file__).parent / "recorded"
WITHIN = 1e-6


def recorded() -> dict[str, dict[str, Any]]:
    files = sorted(FOLDER.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


RECORDED = recorded()
PAIRS = [(name, pair) for name, file in RECORDED.items() for pair in file.get("pairs", ())]
GROUPS = sorted({(name, pair["scorer"]) for name, pair in PAIRS})


@pytest.mark.parametrize(("name", "scorer"), GROUPS)
def test_equal_to_the_published_scorer(name: str, scorer: str) -> None:
    pairs = [pair for file, pair in PAIRS if file == name and pair["scorer"] == scorer]
    for pair in pairs:
        found = SCORERS[scorer](pair["reply"], pair["references"], **pair["options"])
        assert found == pytest.approx(pair["score"], abs=WITHIN), pair


def test_there_are_at_least_two_hundred_pairs_and_each_says_whose_they_are() -> None:
    assert len(PAIRS) >= 200
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, file in RECORDED.items():
        assert f"{name}.json" in told
        assert file["repository"] in told and file["commit"] in told


@pytest.mark.parametrize("said", RECORDED["tigerscore"]["replies"])
def test_error_lists_equal_the_released_parser(said: dict[str, Any]) -> None:
    found = read_errors(said["reply"], compat=True)
    if said["read"] is None:
        assert found is None
    else:
        assert found is not None
        counted = {"count": found.count, "score": found.score, "errors": len(found.errors)}
        assert counted == said["read"]


@pytest.mark.parametrize("said", RECORDED["longiclbench"]["entities"])
def test_entities_equal_the_released_reading(said: dict[str, Any]) -> None:
    assert read_entities(said["reply"], said["sentence"], compat=True) == said["read"]


@pytest.mark.parametrize("run", RECORDED["alpaca_eval"]["runs"])
def test_win_rates_equal_the_released_fit(run: dict[str, Any]) -> None:
    found = length_controlled(
        run["preferences"],
        run["model_lengths"],
        run["baseline_lengths"],
        difficulties=run["difficulties"],
        gamed=[Gamed(*each) for each in run["gamed"] or ()],
    )
    length, *difficulty, ability = run["coefficients"].values()
    assert found.controlled == pytest.approx(run["controlled"], abs=WITHIN)
    assert found.error == pytest.approx(run["error"], abs=WITHIN)
    assert (found.length, found.ability) == pytest.approx((length, ability), abs=WITHIN)
    assert found.difficulty == (pytest.approx(difficulty[0], abs=WITHIN) if difficulty else None)


def same_verdicts(recorded: list[dict[str, Any]]) -> None:
    problems = {row["task_id"]: row for row in (DOUBLE, LAST)}
    for each in recorded:
        (sample,) = HumanEval().asked("humaneval", problems[each["problem"]])
        program = HumanEval().program(each["completion"], sample)
        found = passes(program, sample.facts["checks"])
        assert found["passed"] == each["passed"], (each, found)


def test_programs_pass_where_the_released_harness_says_so() -> None:
    same_verdicts(RECORDED["humaneval"]["programs"][::4])


@pytest.mark.slow
def test_all_programs_pass_where_the_released_harness_says_so() -> None:
    same_verdicts(RECORDED["humaneval"]["programs"])


@pytest.mark.parametrize("estimate", RECORDED["humaneval"]["estimates"])
def test_estimates_equal_the_released_ones(estimate: dict[str, Any]) -> None:
    found = pass_at_k(estimate["samples"], estimate["right"], estimate["k"])
    assert found == pytest.approx(estimate["pass_at_k"], abs=WITHIN)


@pytest.mark.slow
@pytest.mark.skipif(bool(compiler_missing()), reason="no C++ compiler")
@pytest.mark.parametrize("recorded", RECORDED["longproc"]["programs"])
def test_programs_of_cpp_are_right_where_the_released_evaluator_says_so(
    recorded: dict[str, Any],
) -> None:
    found = code_scores(recorded["reply"], recorded["tests"])
    assert (found.accuracy, found.extracted) == (recorded["accuracy"], recorded["extracted"])
