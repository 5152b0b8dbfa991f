"""What of a text is shown again: all, or as much of its end as there is room for."""

from __future__ import annotations

from lengthwise.api.text_model import LocalText
from lengthwise.testing.prompting import letters
from lengthwise.workflows.writing_plan import Part
from lengthwise.workflows.writing_prompts import end_of, part_prompt
from tests.workflows.text_models import Words

PLAN = tuple(Part(f"point {n} with a few words of its own", 100) for n in range(1, 21))
TEXT = " ".join(f"w{n}" for n in range(500))


def test_all_of_it_where_there_is_room() -> None:
    found = part_prompt(Words(), "Write it.", PLAN, 3, TEXT, (0, 100), 5000)
    assert found.shown and not found.over
    assert TEXT in found.prompt and "Part 20 - Main point: point 20" in found.prompt
    assert "Now write part 3 of 20: point 3" in found.prompt and "more parts follow" in found.prompt
    assert "about 100 words" in found.prompt
    last = part_prompt(Words(), "Write it.", PLAN, 20, TEXT, (0, 100), 5000).prompt
    assert "the last part" in last


def test_the_end_of_the_text_and_the_plan_around_the_part_where_there_is_not() -> None:
    model = Words()
    for room in (450, 300, 150):
        found = part_prompt(model, "Write it.", PLAN, 12, TEXT, (0, 100), room)
        assert not found.shown and not found.over
        assert room - 20 <= model.count(found.prompt) <= room
        assert "w499" in found.prompt and "w0 " not in found.prompt
        assert "Part 12 - Main point" in found.prompt


def test_an_instruction_without_room_is_given_all_the_same_and_told() -> None:
    found = part_prompt(Words(), "Write it. " * 100, PLAN, 1, TEXT, (0, 100), 150)
    assert found.over > 50 and "Write it. Write it." in found.prompt
    assert "Part 1 - Main" in found.prompt and "Part 2 - Main" not in found.prompt


def test_each_time_it_is_asked_otherwise() -> None:
    prompts = [
        part_prompt(Words(), "Write it.", PLAN, 3, "", (times, 50), 5000).prompt
        for times in range(5)
    ]
    assert len(set(prompts)) == 4 and all("50 words" in each for each in prompts)
    assert "What is written" not in prompts[0]


def test_the_end_of_a_text_has_no_more_tokens_than_asked() -> None:
    for model in (Words(), LocalText(letters())):
        for tokens in (0, 1, 7, 100, 10_000):
            found = end_of(model, TEXT, tokens)
            assert model.count(found) <= tokens and TEXT.endswith(found)
        assert end_of(model, TEXT, 10_000) == TEXT and end_of(model, TEXT, 0) == ""
