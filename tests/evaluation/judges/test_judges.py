"""Judges: what they ask, what they read, and what they refuse to read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lengthwise.errors import RecipeError
from lengthwise.evaluation.judges.answers import last_object, one_mark, whole_in
from lengthwise.evaluation.judges.errors import Errors
from lengthwise.evaluation.judges.judge import JUDGES, Judge, judge_of, text_of
from lengthwise.evaluation.judges.pair import Pair
from lengthwise.evaluation.judges.qa import QA
from lengthwise.evaluation.judges.rating import Rating
from lengthwise.evaluation.judges.summary import Summary, key_points
from lengthwise.evaluation.judges.writing import DIMENSIONS, Writing
from tests.evaluation.judges.judge_cases import CASE, GARBAGE, PAIR, write

EVERY: list[Judge] = [kind() for kind in JUDGES.usable().values()]
each_judge = pytest.mark.parametrize("judge", EVERY, ids=lambda judge: judge.name)


@each_judge
def test_prompts_hold_the_question_and_replies_and_are_no_templates(judge: Judge) -> None:
    case = PAIR if judge.compares else CASE
    prompts = judge.asked(case)
    assert prompts and list(prompts) == list(judge.asked(case))
    assert any(case.question in each for each in prompts) or judge.name == "summary"
    for each in prompts:
        assert all(reply in each for reply in case.replies)
        assert "{references}" not in each and "{summary}" not in each
    if judge.grounded:
        assert any(case.references[0] in each for each in prompts)


@each_judge
def test_garbage_is_no_verdict(judge: Judge) -> None:
    case = PAIR if judge.compares else CASE
    for said in GARBAGE + ('{"fluency": 1, "correctness": 4}',) * (judge.name == "qa"):
        for part in range(len(judge.asked(case))):
            assert judge.read(part, said, case) is None, said[:40]


@each_judge
def test_a_judge_does_not_read_its_own_prompt(judge: Judge) -> None:
    case = PAIR if judge.compares else CASE
    for part, prompt in enumerate(judge.asked(case)):
        assert judge.read(part, prompt, case) is None


def test_names_have_a_nearest_and_options_a_range() -> None:
    assert set(JUDGES) >= {"rating", "pair", "errors", "writing", "qa", "summary"}
    assert judge_of("pair(reference=false)") == Pair(reference=False)
    assert text_of(judge_of("pair(reference=false)")) == "pair(reference=false)"
    assert text_of(Rating()) == "rating" and judge_of(Rating()) == Rating()
    with pytest.raises(RecipeError, match="did you mean 'rating'"):
        judge_of("ratin")
    with pytest.raises(RecipeError, match="reference=x"):
        judge_of("pair(reference=x)")


@pytest.mark.parametrize("said, rating", [
    ("Good. Rating: [[7]]", 7.0), ("[[7.5]]", 7.5), ("Rating: [8]", 8.0), ("[[ 10 ]]", 10.0),
    ("[[5]] ... so [[5]]", 5.0), ("I say [3], so [[4]]", 4.0), ("[1] [2]", None),
])  # fmt: skip
def test_ratings(said: str, rating: float | None) -> None:
    found = Rating().read(0, said, CASE)
    assert found == (None if rating is None else {"rating": rating})
    if found is not None:
        assert Rating().verdict([found], CASE) == found


def test_a_rating_without_reference_is_asked_in_general() -> None:
    for judge, case in ((Rating(reference=False), CASE), (Rating(), replace(CASE, references=()))):
        (prompt,) = judge.asked(case)
        assert "eference" not in prompt and "creative" in prompt
    (prompt,) = Rating().asked(replace(CASE, references=("a", "b")))
    assert "- a\n- b" in prompt


@pytest.mark.parametrize("first, second, preference, changes", [
    ("[[A]]", "[[B]]", 1.0, 0.0), ("[[B]]", "[[A]]", 0.0, 0.0), ("[[C]]", "[[C]]", 0.5, 0.0),
    ("[[A]]", "[[A]]", 0.5, 1.0), ("[[A]]", "[[C]]", 0.75, 1.0), ("[[C]]", "[[A]]", 0.25, 1.0),
])  # fmt: skip
def test_preferences_are_means_of_both_orders(
    first: str, second: str, preference: float, changes: float
) -> None:
    judge = Pair()
    parts = [judge.read(part, said, PAIR) for part, said in enumerate((first, second))]
    assert None not in parts
    found = judge.verdict([each for each in parts if each is not None], PAIR)
    assert found == {"preference": preference, "changes": changes}
    mine, other = judge.asked(PAIR)
    assert mine.index(PAIR.replies[0]) < mine.index(PAIR.replies[1])
    assert other.index(PAIR.replies[1]) < other.index(PAIR.replies[0])


def test_equal_replies_are_a_tie_that_nobody_is_asked_about() -> None:
    same = replace(PAIR, replies=("a", "a"))
    assert Pair().asked(same) == () and Pair().verdict([], same) == {"preference": 0.5}


def test_error_lists() -> None:
    judge = Errors()
    said = "The model-generated output contains {} errors, with a total score reduction of {}."
    assert judge.read(0, said.format(2, 4.5), CASE) == {"score": -4.5, "errors": 2.0}
    assert judge.read(0, "There are no errors in it.", CASE) == {"score": 0.0, "errors": 0.0}
    # More than 5 an error, less than 0.5, what repeats the range, more errors than words.
    for count, total in ((2, 10.5), (0, 1), (4, 1.5), (1, "0.5 to 5"), (2, "3-5"), (6, 6)):
        assert judge.read(0, said.format(count, total), CASE) is None
    assert "At the pier." not in judge.asked(CASE)[0]
    grounded = Errors(reference=True)
    assert grounded.grounded and "At the pier." in grounded.asked(CASE)[0]


def test_six_dimensions_make_a_score_of_a_hundred() -> None:
    judge, numbers = Writing(), dict.fromkeys(DIMENSIONS, 3)
    found = judge.read(0, write({"Analysis": "a {b}", **numbers, "Clarity": "5"}), CASE)
    assert found is not None
    assert judge.verdict([found], CASE)["S_q"] == pytest.approx((5 * 50 + 100) / 6)
    assert judge.read(0, write({**numbers, "Clarity": 6}), CASE) is None
    assert judge.read(0, write({**numbers, "Clarity": 2.5}), CASE) is None
    assert judge.read(0, write({k: v for k, v in numbers.items() if k != "Clarity"}), CASE) is None


def test_answers_have_fluency_times_correctness() -> None:
    judge = QA()
    found = judge.read(0, write({"fluency": 1, "correctness": 2}), CASE)
    assert found == {"fluency": 1.0, "correctness": 2.0}
    assert judge.verdict([found], CASE)["score"] == 2.0
    assert judge.verdict([{"fluency": 0.0, "correctness": 3.0}], CASE)["score"] == 0.0
    (prompt,) = judge.asked(replace(CASE, replies=("Hm.\nAnswer: the\npier",)))
    assert "\nAnswer: the pier\n" in prompt


def test_summaries_have_f1_of_points_and_sentences() -> None:
    judge = Summary()
    case = replace(CASE, references=("One. Two! Three? Four. Five.",))
    assert len(key_points(case.references)) == 5 and key_points(("",)) == [""]
    parts = [
        judge.read(part, write(found), case) for part, found in enumerate((
            {"fluency": 1}, {"supported_key_points": [1, 2, 5], "recall": 3},
            {"precision": 4, "sentence_count": 8},
        ))
    ]  # fmt: skip
    assert None not in parts
    found = judge.verdict([each for each in parts if each is not None], case)
    # The card's: recall 3/5, precision 4/8.
    assert found["f1"] == pytest.approx(0.5455, abs=1e-4)
    assert judge.read(1, write({"recall": 6}), case) is None
    assert judge.read(0, write({"recall": 1}), case) is None


def test_the_last_object_counts_and_marks_have_to_agree() -> None:
    assert last_object('{"a": 1} {"b": [1, {"c": 2}]} }') == {"b": [1, {"c": 2}]}
    assert last_object('{"a": "one\nline {"}') == {"a": "one\nline {"}
    assert last_object("{a}") is None and last_object('[{"a": 1}]') == {"a": 1}
    assert one_mark("[[A]] [[A]]", r"\[\[(A|B)\]\]") == "A"
    assert one_mark("[[A]] [[B]]", r"\[\[(A|B)\]\]") is None
    for value, found in ((1, 1), (1.0, 1), ("1", 1), (1.5, None), (None, None), ("x", None),
                         (float("nan"), None), (10**400, None), ([1], None)):  # fmt: skip
        assert whole_in({"x": value}, "x", 0, 1) == found
