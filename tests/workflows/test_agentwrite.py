"""A long text: plans that can be read and others, parts of the words asked for, room kept."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.length_score import length_score
from lengthwise.tokenization.words import count_words
from lengthwise.workflows.agentwrite import AgentWrite, WrittenPart, joined_parts, notes_of
from lengthwise.workflows.writing_plan import Part, equal_parts
from tests.workflows.text_models import Words, letters

PLAN = "\n".join(f"Part {n} - Main point: point {n} - Words: 400" for n in range(1, 6))
HEADINGS = "\n".join(f"{n}. Heading {n}" for n in range(1, 6))


def test_a_plan_is_taken_as_it_is_said() -> None:
    model = Words(PLAN)
    plan = AgentWrite().plan(model, "Write.", 2000)
    assert plan.parts == tuple(Part(f"point {n}", 400) for n in range(1, 6)) and not plan.notes
    (asked, _) = model.asked[0]
    assert "about 5 in all" in asked and "200 to 1000 words" in asked and "have 2000" in asked


def test_a_wrong_sum_is_scaled_and_said() -> None:
    plan = AgentWrite().plan(Words(PLAN), "Write.", 3000)
    assert [part.words for part in plan.parts] == [600] * 5
    assert plan.notes == ("the plan has 2,000 words; its parts were scaled to 3,000",)


def test_headings_are_asked_for_where_there_is_no_plan() -> None:
    model = Words("I would love to.", HEADINGS)
    plan = AgentWrite().plan(model, "Write.", 2000)
    assert plan.parts == tuple(Part(f"Heading {n}", 400) for n in range(1, 6))
    assert len(model.asked) == 2 and "headings" in plan.notes[0]


@pytest.mark.parametrize("said", ["", "1. One heading", HEADINGS.replace("\n", " ")])
def test_equal_parts_where_there_is_neither(said: str) -> None:
    model = Words("No.", said)
    plan = AgentWrite().plan(model, "Write.", 2000)
    assert plan.parts == equal_parts(2000, 5) and len(model.asked) == 2
    assert plan.notes == ("no plan could be read of two answers; the text is written in 5 equal "
                          "parts",)  # fmt: skip


def test_a_short_text_needs_no_plan() -> None:
    model = Words(PLAN)
    assert AgentWrite().plan(model, "Write.", 300).parts == (Part("all of it", 300),)
    assert not model.asked


@pytest.mark.parametrize("streams", [True, False])
def test_parts_have_the_words_of_the_plan_and_are_streamed_as_they_are(streams: bool) -> None:
    model, pieces = Words(PLAN, streams=streams), list[str]()
    how = AgentWrite()
    plan = how.plan(model, "Write.", 5000)
    parts = [*how.parts(model, "Write.", plan.parts, stream=pieces.append)]
    text = joined_parts([part.text for part in parts])
    assert all(abs(part.words - part.asked) <= 6 and part.calls == 1 for part in parts)
    assert abs(count_words(text) - 5000) < 30 and length_score(5000, count_words(text)) > 99
    assert "".join(pieces).split() == text.split() and "".join(pieces).count("\n\n") == 4
    assert not notes_of(parts, how.enough)


def test_a_part_is_shown_the_instruction_the_plan_and_what_was_written() -> None:
    model = Words(PLAN)
    how = AgentWrite()
    plan = how.plan(model, "Write of ships.", 2000)
    parts = [*how.parts(model, "Write of ships.", plan.parts)]
    for number, prompt in enumerate(model.parts_asked(), 1):
        assert "Write of ships." in prompt and "Part 5 - Main point: point 5" in prompt
        assert f"Now write part {number} of 5: point {number}" in prompt
        assert all((each.text in prompt) == (n < number) for n, each in enumerate(parts, 1))
    shown = [*AgentWrite(remembered=30).parts(model, "Write of ships.", plan.parts)]
    last = model.parts_asked()[-1]
    assert shown[3].text not in last and shown[3].text[-60:] in last


def test_a_short_part_is_asked_to_go_on_a_few_times() -> None:
    numbers = iter(range(10_000))
    line = "Line {} says a thing or two. "
    model = Words(
        PLAN, part=lambda *_: "".join(line.format(letters(next(numbers))) for _ in range(8))
    )
    how = AgentWrite()
    parts = [*how.parts(model, "Write.", how.plan(model, "Write.", 1250).parts)]
    assert {part.calls for part in parts} == {4} and all(part.words == 224 for part in parts)
    second = model.parts_asked()[1]
    assert "too short" in second and "about 194 words more" in second
    assert "parts 1, 2, 3, 4, 5 shorter than planned" in notes_of(parts, how.enough)[0]
    more = AgentWrite(rounds=9)
    longer = [*more.parts(model, "Write.", more.plan(model, "Write.", 1250).parts)]
    assert all(part.words >= 225 and part.calls == 5 for part in longer)


def test_what_a_part_lacks_the_next_ones_make_up_for() -> None:
    how, told = AgentWrite(), Words()
    plan = [Part("a", 400), Part("b", 400), Part("c", 400)]
    parts = [*how.parts(told, "Write.", plan, ["Few words."])]
    # 398 are missing: 200 of them are added to each.
    assert [part.asked for part in parts] == [400, 400]
    assert all(abs(part.words - 600) < 10 for part in parts)
    assert notes_of(parts, how.enough) == []


def test_a_model_that_says_the_same_is_left_and_told() -> None:
    model = Words(PLAN, part=lambda *_: "The same old thing again. " * 50)
    how = AgentWrite()
    parts = [*how.parts(model, "Write.", how.plan(model, "Write.", 2000).parts)]
    assert [part.text for part in parts] == ["The same old thing again.", "", "", "", ""]
    assert [part.calls for part in parts] == [3, 2, 2, 2, 2]
    said = notes_of(parts, how.enough)
    assert "shorter than planned" in said[0] and "went round in circles" in said[1]


def test_prompts_fit_the_trained_length_and_what_is_cut_is_said_once() -> None:
    model = Words(PLAN, trained_length=1000)
    how = AgentWrite()
    parts = [*how.parts(model, "Write.", how.plan(model, "Write.", 3000).parts)]
    for prompt, new in model.asked[1:]:
        assert model.count(prompt) + new <= 1000
    assert all(part.words > 0.9 * part.asked for part in parts)
    assert [part.cut for part in parts] == [False, True, True, True, True]
    said = notes_of(parts, how.enough)
    assert said == ["from part 2 on the prompt had no room for all of the text so far: the model "
                    "saw the end of it"]  # fmt: skip
    long = [*how.parts(model, "Write it. " * 600, how.plan(model, "Write.", 3000).parts)]
    assert long[0].over > 0 and "more than the model was" in notes_of(long, how.enough)[-1]


def test_it_goes_on_behind_what_is_done() -> None:
    how = AgentWrite()
    plan = how.plan(Words(PLAN), "Write.", 2000).parts
    whole = [part.text for part in how.parts(Words(PLAN), "Write.", plan)]
    model = Words(PLAN)
    rest = [part.text for part in how.parts(model, "Write.", plan, whole[:3])]
    assert rest == whole[3:] and whole[2] in model.parts_asked()[0]


def test_tokens_of_an_answer_are_bounded() -> None:
    model = Words(PLAN)
    how = AgentWrite()
    [*how.parts(model, "Write.", [Part("all", 1000)])]
    assert 1000 < model.asked[0][1] < 2500
    model = Words(PLAN, trained_length=600)
    [*how.parts(model, "Write.", [Part("all", 1000)])]
    assert {new for _, new in model.asked} <= set(range(301))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"part_words": 10}, "part_words=10: give 200 to 1,000"), ({"enough": 0}, "enough=0"),
     ({"rounds": -1}, "rounds=-1"), ({"repeats": -2}, "repeats=-2"),
     ({"remembered": -5}, "remembered=-5")],
)  # fmt: skip
def test_options_are_checked(options: dict[str, int], words: str) -> None:
    with pytest.raises(LengthwiseError, match=words):
        AgentWrite(**options)  # type: ignore[arg-type]


def test_empty_parts_leave_no_gap() -> None:
    assert joined_parts(["a", "", "b"]) == "a\n\nb\n"
    assert WrittenPart("a b", 5).words == 2
