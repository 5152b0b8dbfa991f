"""`lengthwise write`: what is asked for is done, or refused by name."""

from __future__ import annotations

from pathlib import Path

from tests.called import called


def test_words_of_a_part_are_of_a_plan_that_the_model_makes(tmp_path: Path) -> None:
    plan = tmp_path / "plan.txt"
    plan.write_text("Part 1 - Ships: where to begin - Words: 400\n")
    words = ("write", "Of ships.", "-w", "400", "-m", "./nowhere", "--plan", str(plan))
    status, out, err = called(*words, "--part-words", "300")
    assert (status, out) == (
        2,
        "",
    ) and "--part-words is of a plan that the model is asked for" in err
    for fine in (words, (*words[:-2], "--part-words", "300")):
        status, _, err = called(*fine)
        assert status == 2 and "nowhere" in err and "--part-words" not in err
