"""Keywords and the ends of threads."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.needles import (
    keyword_recall,
    literal,
    thread_value,
    thread_values,
)

ONE, TWO = "9f2c41aa-03d7-4b8e", "5be0c7d9-e214-11aa"


def test_keywords_are_whole_words() -> None:
    assert keyword_recall("Eat a SANDWICH in Dolores Park.", ["sandwich", "dolores park"]) == 1
    assert keyword_recall("sandwiches at the park", ["sandwich", "park"]) == 0.5


@pytest.mark.parametrize("reply", [ONE, f"'{ONE}'", f'"{ONE}"\n', f"{ONE} is the value"])
def test_a_value_is_a_literal_or_a_bare_word(reply: str) -> None:
    assert thread_value(reply, [ONE]) == 1
    assert thread_value(reply, [TWO]) == 0


def test_digits_keep_their_zeros() -> None:
    assert thread_value("00120", ["00120"]) == 1
    assert literal("1_000") == "1_000"


@pytest.mark.parametrize("reply", [f"['{ONE}', '{TWO}']", f"[{ONE}, {TWO}]", f"{ONE}\n{TWO}"])
def test_values_stand_at_their_places(reply: str) -> None:
    assert thread_values(reply, [ONE, TWO]) == 1
    assert thread_values(reply, [TWO, ONE]) == 0
    assert thread_values(reply, [TWO, ONE], ordered=False) == 1
    assert thread_values(reply, [ONE, "x"]) == 0.5
    assert thread_values(reply, [ONE], ordered=False) == 0.5


def test_nested_without_end_is_text() -> None:
    deep = "[" * 100_000
    assert literal(deep) == deep
