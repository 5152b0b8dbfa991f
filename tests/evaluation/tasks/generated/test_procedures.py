"""LongProc-like procedures: oracles, one line less, routes and beliefs found another way."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.generated.procedures.countdown import compute, search, written
from lengthwise.evaluation.tasks.generated.procedures.minds import House
from tests.evaluation.tasks.generated.generated_cases import one, wanted

TASKS = ("path_traversal", "tom_tracking", "countdown")


def test_a_route_of_four_lines_with_the_third_wrong_is_half_right() -> None:
    task, sample = one("procedures/path_traversal", 600)
    four = replace(sample, begin="<Route>\na", references=("\nb\nc\nd\n</Route>",))
    assert task.score("\nb\nx\nd\n</Route>", four) == {"accuracy": 0.0, "partial": 0.5}
    assert task.score("<Route>\na\nb\nc\n</Route>", four) == {"accuracy": 0.0, "partial": 0.75}
    assert task.score("\nb\nc\nd\n</Route>", four) == {"accuracy": 1.0, "partial": 1.0}
    assert task.score("\nb\nc\nd\n", four) == {"accuracy": 0.0, "partial": 0.0}


@pytest.mark.parametrize("task", ["path_traversal", "tom_tracking"])
def test_without_its_last_line_a_reply_is_wrong_and_nearly_right(task: str) -> None:
    found, sample = one(f"procedures/{task}", 900)
    lines = [line for line in sample.references[0].splitlines() if line != "</Route>"]
    short = "\n".join(lines[:-1]) + "\n</Route>" * (task == "path_traversal")
    share = (len(lines) - 1) / len(lines)
    assert found.score(short, sample) == {"accuracy": 0.0, "partial": pytest.approx(share)}


def test_each_city_has_one_connection_and_the_way_is_the_only_one() -> None:
    (task,) = tasks_of("procedures/path_traversal")
    for sample in task.samples(wanted(1500, 3)):
        stated = re.findall(r"From (\w+) one goes to (\w+) by (\w+)\.", sample.context)
        leads = {here: (there, way) for here, there, way in stated}
        assert len(leads) == len(stated)
        here, last = re.findall(r"from (\w+) to (\w+)\.", sample.question)[0]
        lines = []
        while here != last:
            there, way = leads[here]
            lines.append(f"From {here} to {there} by {way}.")
            here = there
        right = "\n".join(["<Route>", *lines, "</Route>"])
        assert right == sample.begin + sample.references[0]
        assert len(stated) == 3 * len(lines) + 1


def believed(story: str, who: str) -> list[tuple[str, str, str]]:
    """Thing's place, room and belief after each step, from the sentences alone."""
    boxes = {
        box: room
        for room, one_box, two in re.findall(r"In the (\w+) are a (\w+) and a (\w+)\.", story)
        for box in (one_box, two)
    }
    rooms = dict(re.findall(r"(?:^|\. )(\w+) is in the (\w+)(?=\. )", story.split("\n")[0]))
    box = re.findall(r"The \w+ is in the (\w+)\.", story)[0]
    belief, found = box, []
    for line in story.split("\n")[1:]:
        name = line.split(": ")[1].split()[0]
        walked, into = re.search(r"walks to the (\w+)", line), re.search(r"into the (\w+)", line)
        seen = rooms[who] == boxes[box]
        if walked:
            rooms[name] = walked[1]
        if into:
            box = into[1]
            rooms[name] = boxes[box]
        seen = rooms[who] == boxes[box]
        belief = box if seen else belief
        found.append((box, rooms[who], belief))
    return found


def test_beliefs_change_only_where_the_thing_is_seen() -> None:
    (task,) = tasks_of("procedures/tom_tracking")
    apart = 0
    for sample in task.samples(wanted(1500, 5)):
        who = re.search(r"; (\w+) is in the room", sample.question)
        said = re.findall(
            r"is in the (\w+); \w+ is in the (\w+); \w+ believes it is in the (\w+)",
            sample.begin + sample.references[0],
        )
        assert who and believed(sample.context, who[1]) == said
        apart += sum(box != belief for box, _, belief in said)
    assert apart > 0


def test_nobody_moves_what_is_not_in_the_room() -> None:
    for seed in range(20):
        house = House(random.Random(seed))
        for _ in range(60):
            before = dict(house.people)
            box = house.box
            said, _ = house.step()
            name = said.split(": ")[1].split()[0]
            if house.box != box:
                assert before[name] == place(box)


def place(box: str) -> str:
    rooms = {
        "kitchen": ("drawer", "basket"), "hall": ("chest", "bag"), "study": ("desk", "safe"),
        "garden": ("pot", "shed"), "attic": ("trunk", "crate"),
    }  # fmt: skip
    return next(room for room, boxes in rooms.items() if box in boxes)


def test_a_search_of_three_numbers_is_written_step_by_step() -> None:
    lines, leaves = search([3, 5, 2])
    assert lines[:8] == [
        "Pick 5 and 3, left 2",
        "Try 5 + 3 = 8, now 2 8",
        "Pick 8 and 2",
        "Try 8 + 2 = 10, no",
        "Try 8 - 2 = 6, no",
        "Try 8 * 2 = 16, no",
        "Try 8 / 2 = 4, no",
        "Try 5 - 3 = 2, now 2 2",
    ]
    four = next(leaf for leaf in leaves if leaf.value == 4)
    assert written(lines, four).splitlines()[6:] == [
        "Try 8 / 2 = 4, yes", "<Solution>", "5 + 3 = 8", "8 / 2 = 4", "</Solution>",
    ]  # fmt: skip
    assert "Try 2 - 2 = 0, drop" in lines
    assert "Try 5 / 3 = no whole number, drop" in lines
    assert len({leaf.value for leaf in leaves}) == len(leaves)


@pytest.mark.parametrize(
    ("asked", "value"),
    [("7 + 2", 9), ("7 - 2", 5), ("7 * 2", 14), ("7 / 2", None), ("8 / 2", 4), ("8 / 0", None)],
)
def test_operations_give_whole_numbers_or_none(asked: str, value: int | None) -> None:
    a, sign, b = asked.split()
    assert compute(int(a), sign, int(b)) == value


def test_targets_are_made_and_other_solutions_count_too() -> None:
    task, sample = one("procedures/countdown", 700)
    given = replace(sample, facts={"numbers": [3, 5, 2, 7], "target": 17})
    right = "<Solution>\n5 + 3 = 8\n8 + 2 = 10\n10 + 7 = 17\n</Solution>"
    assert task.score(right, given) == {"accuracy": 1.0, "partial": 1.0}
    for wrong in (
        right.replace("17\n<", "18\n<"),
        right.replace("10 + 7 = 17", "10 + 10 = 20"),
        right.replace("8 + 2 = 10\n", ""),
        right.replace("</Solution>", ""),
        right.replace("5 + 3 = 8", "__import__('os') = 8"),
    ):
        assert task.score(wrong, given)["accuracy"] == 0.0


def test_a_search_that_is_right_to_its_half_scores_half() -> None:
    task, sample = one("procedures/countdown", 700)
    lines = sample.references[0].partition("<Solution>")[0].splitlines()
    half = "\n".join(lines[: len(lines) // 2])
    share = (len(lines) // 2) / len(lines)
    assert task.score(half, sample) == {"accuracy": 0.0, "partial": pytest.approx(share)}


def test_where_four_numbers_are_too_short_there_are_five() -> None:
    _, short = one("procedures/countdown", 3000)
    _, long = one("procedures/countdown", 40_000)
    assert (len(short.facts["numbers"]), len(long.facts["numbers"])) == (4, 5)
    assert wanted(40_000).size(long) > 0.8 * 40_000
    _, three = one("procedures(numbers=3)/countdown", 3000)
    assert len(three.facts["numbers"]) == 3


@pytest.mark.parametrize(
    ("task", "low", "high"),
    [("path_traversal", 0.15, 0.4), ("tom_tracking", 0.5, 0.8), ("countdown", 0.7, 1.0)],
)
def test_the_reply_takes_the_part_of_the_length_that_is_said(
    task: str, low: float, high: float
) -> None:
    _, sample = one(f"procedures/{task}", 4000)
    assert low < sample.most / 4000 < high
