"""Error lists of a judge."""

from __future__ import annotations

from lengthwise.evaluation.scorers.error_lists import PROMPT, read_errors

SAID = """\
The model-generated output contains 2 errors, with a total score reduction of 4.5.
Error location 1: the blue door
Error aspect 1: Accuracy
Explanation 1: The door is red.
Severity 1: Major
Score reduction 1: 4.0
Error location 2: is were
Error aspect 2: Grammar
Explanation 2: One verb is enough.
Severity 2: Minor
Score reduction 2: 0.5
"""


def test_the_total_has_decimals_but_not_for_the_released_parser() -> None:
    found, released = read_errors(SAID), read_errors(SAID, compat=True)
    assert found is not None and released is not None
    assert (found.score, released.score) == (-4.5, -4)
    assert found.consistent and not released.consistent
    assert [each.severity for each in found.errors] == ["Major", "Minor"]
    assert found.errors[0].location == "the blue door"


def test_a_short_form_is_read() -> None:
    found = read_errors("2 errors, total score reduction of 4.5")
    assert found is not None
    assert (found.count, found.score, found.consistent) == (2, -4.5, False)


def test_what_cannot_be_read_is_missing_and_not_zero() -> None:
    assert read_errors("") is None
    assert read_errors("A fine text.") is None
    assert read_errors("It has 2 errors.") is None
    assert read_errors(SAID.replace("Severity 2: Minor\n", ""), compat=True) is None


def test_no_error_is_the_best_score() -> None:
    found = read_errors("I find no errors.")
    assert found is not None
    assert (found.count, found.score, found.consistent) == (0, 0, True)


def test_a_missing_field_leaves_the_others() -> None:
    found = read_errors(SAID.replace("Score reduction 2: 0.5", "Score reduction 2: none"))
    assert found is not None
    assert [each.reduction for each in found.errors] == [4.0, None]
    assert found.itemised == -4.0


def test_the_prompt_asks_for_what_is_read() -> None:
    text = PROMPT.format(instruction="Translate.", source="Hallo", output="Hello")
    for field in ("Error location 1:", "Severity 1:", "total score reduction of"):
        assert field in text
