"""The kinds of work: prompts of the length asked for, the same on every call."""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Callable

import pytest

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.compare import drafting_suite
from lengthwise.evaluation.tasks import work


@pytest.fixture
def count(model: lengthwise.Model) -> Callable[[work.Messages], int]:
    return lambda messages: len(drafting_suite.encode(model, messages))


@pytest.mark.parametrize(("context", "number"), [("short", work.PROMPTS), ("long", 1)])
@pytest.mark.parametrize("kind", work.KINDS)
def test_prompts_are_within_a_tenth_of_the_length_asked_for(kind, context, number, count) -> None:
    length = work.CONTEXTS[context]
    found = list(work.prompts(kind, length, number, count))
    assert (
        len({each.name for each in found}) == len({str(each.messages) for each in found}) == number
    )
    for each in found:
        assert abs(count(each.messages) - length) <= work.TOLERANCE * length
        assert "{text}" not in str(each.messages) and "{line}" not in str(each.messages)


def test_prompts_are_the_same_on_every_call(count) -> None:
    for kind in ("chat", "arithmetic", "code"):
        assert list(work.prompts(kind, 768, 2, count)) == list(work.prompts(kind, 768, 2, count))


def test_a_chat_has_three_turns_of_its_user(count) -> None:
    for each in work.prompts("chat", 768, work.PROMPTS, count):
        assert [m["role"] for m in each.messages] == ["user", "assistant"] * 2 + ["user"]


def test_a_code_prompt_holds_the_whole_function(count) -> None:
    each = next(work.prompts("code", 768, 1, count))
    assert inspect.getsource(statistics.quantiles) in each.messages[0]["content"]


def test_solved_problems_are_solved_rightly(count) -> None:
    checked = 0
    for each in work.prompts("arithmetic", 768, work.PROMPTS, count):
        for line in each.messages[0]["content"].splitlines():
            sides = line.split(" = ")
            if len(sides) == 2:
                assert eval(sides[0]) == int(sides[1])
                checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("summery", 768, 1), "did you mean 'summary'"),
        (("code", 64, 1), "at least"),
        (("code", 500_000, 1), "at most"),
        (("chat", 768, 6), "1 to 5"),
    ],
)
def test_prompts_that_cannot_be_had_are_refused(arguments, words, count) -> None:
    with pytest.raises(LengthwiseError, match=words):
        list(work.prompts(*arguments, count))
