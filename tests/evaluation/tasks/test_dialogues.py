"""SirLLM's three dialogues: what is asked was said, what is right is right, files are read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.dialogue_tables import GROCERIES, PLAIN, TALKS
from lengthwise.evaluation.tasks.dialogues import (
    BEATS,
    MOVES,
    Score,
    Turn,
    game,
    grocery,
    read_dialogues,
    talks,
)


@pytest.mark.parametrize("seed", range(10))
def test_an_errand_is_asked_for_after_the_questions(seed: int) -> None:
    turns = grocery(seed, delay=12).turns
    first, *between, last = turns
    wanted = last.choices[last.right]
    assert f"[{wanted}]" in first.text and wanted in GROCERIES and first.choices == ("OK",)
    assert len(between) == 12 and [t.counts for t in turns] == [False] * 13 + [True]
    right = {question[0]: question[1] for question in PLAIN}
    for turn in between:
        asked, _, listed = turn.text.partition(" Choices: ")
        assert turn.choices[turn.right] == right[asked]
        assert all(f") {choice}" in listed for choice in turn.choices)
    assert grocery(seed, 12) == grocery(seed, 12) != grocery(seed + 100, 12)


@pytest.mark.parametrize("prefers", MOVES)
def test_a_player_prefers_a_move_and_each_turn_tells_the_one_before(prefers: str) -> None:
    turns = game(prefers, 600, seed=1).turns
    moves = [MOVES[turn.theirs or 0] for turn in turns]
    counts = Counter(moves)
    assert counts.most_common(1)[0][0] == prefers and 0.4 < counts[prefers] / 600 < 0.6
    for before, turn in zip(moves, turns[1:], strict=False):
        assert f"[{before}]" in turn.text
    for move, turn in zip(moves, turns, strict=True):
        assert turn.choices == MOVES and MOVES[turn.right] == BEATS[move]


def test_always_beating_the_preferred_move_wins_half_and_ties_add_up() -> None:
    score = Score()
    for turn in game("paper", 400, seed=2).turns:
        score.add(turn, MOVES.index("scissors"))
    assert 0.4 < score.accuracy < 0.6
    assert score.asked == 400 == score.right + score.ties + score.lost
    assert score.ties > 0 and score.lost > 0


def test_turns_that_do_not_count_are_not_scored() -> None:
    score = Score()
    score.add(Turn("?", ("a", "b"), 0, counts=False), 0)
    assert (score.asked, score.accuracy) == (0, 0.0)
    score.add(Turn("?", ("a", "b"), 0), 0)
    score.add(Turn("?", ("a", "b"), 0), 1)
    assert score.accuracy == 0.5


def test_a_remark_is_answered_by_its_own_talk() -> None:
    answers = {said: answer for talk in TALKS for said, answer in zip(talk, talk[1:], strict=False)}
    turns = talks(6, seed=3).turns
    assert len(turns) == 12
    for turn in turns:
        said = turn.text.removeprefix("Which remark answers this one? ").partition(" Choices: ")[0]
        assert turn.choices[turn.right] == answers[said] and len(set(turn.choices)) == 4


def test_what_cannot_be_made_is_refused() -> None:
    for make in (lambda: grocery(0, 0), lambda: grocery(0, 99), lambda: game("well"),
                 lambda: game("rock", 0), lambda: talks(0), lambda: talks(99)):  # fmt: skip
        with pytest.raises(LengthwiseError):
            make()


def record(name: object, stem: str, choices: list[str], right: str, **more: str) -> str:
    listed = [{"label": "ABCD"[i], "text": each} for i, each in enumerate(choices)]
    return json.dumps({"id": name, "question": {"stem": stem, "choices": listed},
                       "answerKey": right, **more})  # fmt: skip


def test_published_files_are_read(tmp_path: Path) -> None:
    place = tmp_path / "keys.jsonl"
    place.write_text("\n".join(
        line for i in range(2) for line in (
            record(f"key_{i}", "Buy [tea].", ["OK"], "A"),
            record(str(i), "Where do fish live?", ["sea", "attic"], "A"),
            record(f"answer_{i}", "Which one?", ["salt", "tea"], "B"),
        )
    ))  # fmt: skip
    first, second = read_dialogues(place)
    assert [turn.counts for turn in first.turns] == [False, False, True]
    assert len(second.turns) == 3 and second.turns[2].right == 1
    assert second.turns[2].text == "Which one? Choices: (A) salt (B) tea"
    assert second.turns[0].text == "Buy [tea]."
    place.write_text("\n".join(record(f"{i}_{j}", "Hm?", ["a", "b"], "B")
                               for i in range(3) for j in (1, 3)))  # fmt: skip
    assert [len(dialogue.turns) for dialogue in read_dialogues(place)] == [2, 2, 2]
    assert all(turn.counts for dialogue in read_dialogues(place) for turn in dialogue.turns)
    place.write_text("\n".join(record(i, "Play.", list(MOVES), "C", user_choice="B")
                               for i in range(4)))  # fmt: skip
    (only,) = read_dialogues(place)
    assert [(t.theirs, t.right, t.counts) for t in only.turns] == [(1, 2, True)] * 4


@pytest.mark.parametrize(
    "line",
    ['{"id": 1}', record("1", "x", ["a"], "D"), record(1, "x", ["a"], "A", user_choice="Z"), "3"],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str) -> None:
    place = tmp_path / "odd.jsonl"
    place.write_text(record("1_1", "x", ["a", "b"], "A") + "\n" + line)
    with pytest.raises(DocumentError, match=r"odd.jsonl, line 2"):
        read_dialogues(place)
