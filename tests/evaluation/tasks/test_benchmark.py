"""The seam of benchmarks: samples of a wanted length, tasks by name, what a task lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, strategies as st

from lengthwise._utils import saying
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.evaluation.tasks import benchmark
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest, tasks_of


def made(words: int) -> Sample:
    return Sample("w " * words, "q", ("r",), 0)


def wishes(length: int, tokens=lambda text: len(text.split())) -> Wanted:
    return Wanted(length + benchmark.TEMPLATE + 1, 1, 0, tokens, "")


@given(length=st.integers(1, 50_000))
def test_the_largest_sample_is_of_exactly_the_wanted_length(length: int) -> None:
    assert len(largest(wishes(length), made).context.split()) == length


@given(length=st.integers(9, 9_000), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_one_unit_more_than_the_largest_is_too_long(length: int, sizes: list[int]) -> None:
    def uneven(units: int) -> Sample:
        return made(sum(sizes[n % len(sizes)] for n in range(units)))

    wanted, tried = wishes(length), []
    found = largest(wanted, lambda units: tried.append(units) or uneven(units))
    best = max(n for n in tried if uneven(n) == found)
    assert wanted.fits(found) and not wanted.fits(uneven(best + 1))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_sizes_that_grow_in_no_line_are_found_too(power: float) -> None:
    found = largest(wishes(3000), lambda units: made(int(units**power) + 1))
    assert len(found.context.split()) <= 3000
    best = next(n for n in range(10**7) if int((n + 1) ** power) + 1 > 3000)
    assert len(found.context.split()) == int(best**power) + 1


def test_few_long_prompts_are_counted() -> None:
    counted: list[int] = []

    def tokens(text: str) -> int:
        counted.append(len(text))
        return len(text.split())

    largest(wishes(32_768, tokens), made)
    assert sum(each > 32_768 for each in counted) <= 4
    assert sum(counted) < 5 * max(counted)


def test_units_are_bounded_from_both_sides() -> None:
    assert len(largest(wishes(1000), made, greatest=7).context.split()) == 7
    assert len(largest(wishes(1000), made, least=7, greatest=7).context.split()) == 7
    with pytest.raises(LengthwiseError, match="has no room for the smallest sample of 72; give"):
        largest(wishes(6), made, least=7)


@dataclass(frozen=True)
class Lacking:
    name: ClassVar[str] = "lacking"
    paper: ClassVar[None] = None
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        "one": Difficulty("low", "low"), "two": Difficulty("low", "high"),
    }  # fmt: skip
    data: str = ""

    def missing(self, task: str) -> str:
        return "" if task == "one" and self.data != "none" else "a file: give lacking(data=FILE)"

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        yield made(1)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        return {"score": 1.0}


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_Known", lambda: {"lacking": Lacking})
    monkeypatch.setattr(saying, "_SAID", set())


def test_what_a_task_lacks_is_said_and_it_is_left_out_of_the_whole(lacking, capsys) -> None:
    assert [task.text for task in tasks_of("lacking")] == ["lacking/one"]
    said = " ".join(capsys.readouterr().err.split())
    assert said == "note: lacking/two is left out: it needs a file: give lacking(data=FILE)"
    assert tasks_of("lacking/one")[0].missing == ""


@pytest.mark.parametrize("given", ["lacking/two", "lacking(data=none)", "lacking(data=none)/one"])
def test_what_is_asked_for_by_name_and_lacks_something_is_refused(lacking, given: str) -> None:
    with pytest.raises(LengthwiseError, match=r"needs a file: give lacking\(data=FILE\)"):
        tasks_of(given)


def test_unknown_names_are_refused_with_what_there_is() -> None:
    with pytest.raises(LengthwiseError, match="ruler has no task 'vtt'; it has niah_single_1"):
        tasks_of("ruler/vtt")
    with pytest.raises(RecipeError, match="did you mean 'ruler'"):
        tasks_of("rulr")
    with pytest.raises(RecipeError, match="threads has no option 'needle'; did you mean 'needles'"):
        tasks_of("threads(needle=3)/multi")
    assert [task.text for task in tasks_of("threads(needles=3)/multi")] == [
        "threads(needles=3)/multi"
    ]
    assert [task.text for task in tasks_of("needle(needles=2)")] == ["needle(needles=2)"]
