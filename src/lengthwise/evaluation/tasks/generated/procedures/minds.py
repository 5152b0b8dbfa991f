"""Theory-of-mind tracking: who is where, where a thing is, and where somebody believes it to be.

People walk between rooms and move a thing between containers. The reply has a line for each step:
where the thing is, where one of them is, and where that one believes it to be. A belief changes
only in a room where the thing is seen: on entering it, or when it is put down there or taken away.

A unit is a step. Its line in the reply is longer than its sentence in the story, so about two
thirds of the length are written.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from lengthwise.evaluation.scorers.procedures import beliefs
from lengthwise.evaluation.tasks.benchmark import Sample, Wanted
from lengthwise.evaluation.tasks.generated._shared.pairs import Grown, apart

_PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")
_THINGS = ("key", "coin", "letter", "ring", "map", "book")
_ROOMS = {
    "kitchen": ("drawer", "basket"), "hall": ("chest", "bag"), "study": ("desk", "safe"),
    "garden": ("pot", "shed"), "attic": ("trunk", "crate"),
}  # fmt: skip
_PLACE = {box: room for room, boxes in _ROOMS.items() for box in boxes}
_ASKED = (
    "Write a line for each step, in this form, and no others:\n"
    "- step 1: the {thing} is in the box; {name} is in the room; {name} believes it is in the box"
)


class House:
    """People, a thing and its places. who: whose belief is followed."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.rooms = draw.sample(list(_ROOMS), 3)
        self.people = {name: draw.choice(self.rooms) for name in draw.sample(_PEOPLE, 3)}
        self.who, self.thing = next(iter(self.people)), draw.choice(_THINGS)
        # It begins where it is seen by the one who is followed.
        self.box = self.belief = draw.choice(_ROOMS[self.people[self.who]])
        self.count = 0

    def opening(self) -> str:
        """Who and what is where before the first step."""
        there = "".join(f"{name} is in the {room}. " for name, room in self.people.items())
        boxes = "".join(f"In the {r} are a {' and a '.join(_ROOMS[r])}. " for r in self.rooms)
        return f"{boxes}{there}The {self.thing} is in the {self.box}."

    def step(self) -> tuple[str, str]:
        """The next step: its sentence, and its line in the reply."""
        self.count += 1
        near = [name for name, room in self.people.items() if room == _PLACE[self.box]]
        if near and self.draw.random() < 0.5:
            said = self._moved(self.draw.choice(near))
        else:
            said = self._walked(self.draw.choice(list(self.people)))
        line = (
            f"- step {self.count}: the {self.thing} is in the {self.box}; {self.who} is in the "
            f"{self.people[self.who]}; {self.who} believes it is in the {self.belief}"
        )
        return f"Step {self.count}: {said}", line

    def _walked(self, name: str) -> str:
        room = self.draw.choice([each for each in self.rooms if each != self.people[name]])
        self.people[name] = room
        if name == self.who and room == _PLACE[self.box]:
            self.belief = self.box
        return f"{name} walks to the {room}."

    def _moved(self, name: str) -> str:
        """The thing is put elsewhere in its room, or carried to another."""
        before, rooms = _PLACE[self.box], self.rooms
        room = before if self.draw.random() < 0.5 else self.draw.choice(rooms)
        self.box = self.draw.choice([each for each in _ROOMS[room] if each != self.box])
        self.people[name] = room
        if self.who == name or self.people[self.who] == room:
            self.belief = self.box
        if room == before:
            return f"{name} puts the {self.thing} into the {self.box}."
        return f"{name} carries the {self.thing} to the {room} and puts it into the {self.box}."


def minds(wanted: Wanted, draw: random.Random) -> Callable[[int], Sample]:
    """What builds a sample of so many steps.

    Args:
        wanted: how long.
        draw: source of chance.
    """
    house = House(apart(draw))
    opening, steps = house.opening(), Grown(house.step)
    asked = _ASKED.format(thing=house.thing, name=house.who)
    begin = f"- step 1: the {house.thing} is in the"

    def build(units: int) -> Sample:
        made = steps.first(units)
        text = f"{opening}\n" + "\n".join(said for said, _ in made)
        right = "\n".join(line for _, line in made).removeprefix(begin)
        most = wanted.tokens(right) * 11 // 10 + 16
        return Sample(text, asked, (right,), most, begin)

    return build


def score_minds(said: str, sample: Sample) -> Mapping[str, float]:
    """Whether all lines are right, and the share before the first that is wrong.

    Args:
        said: the reply.
        sample: that was asked.
    """
    said = said if "- step 1:" in said else sample.begin + said
    found = beliefs(said, sample.begin + sample.references[0])
    return {"accuracy": found.accuracy, "partial": found.partial}


__all__ = ["House", "minds", "score_minds"]
