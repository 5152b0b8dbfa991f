"""Made facts about people, and questions for one of them: one right passage among alike ones.

    As the neighbours say, the instrument of Mary Stone is the cello.
    What is the instrument of Mary Stone? Name only the instrument.

A register has 25 people for each of eight relations, and each fact is a passage of its own. For a
question BM25 finds the right fact, and then facts of the same relation about other people: hard
negatives. Facts drawn at random are mostly of other relations. Registers to train on have other
people than the one that is asked about: no family name is in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

PEOPLE = 25
# Tokens of a passage: those of one fact, and not of two.
PASSAGE = 20
RELATIONS = {
    "instrument": "cello violin piano flute drum guitar harp trumpet organ banjo",
    "colour": "red blue green yellow purple orange pink brown black white",
    "pet": "cat dog parrot rabbit horse turtle snake goat duck pig",
    "drink": "tea coffee milk water wine beer juice cider lemonade cocoa",
    "sport": "tennis golf hockey rugby boxing rowing chess cricket soccer judo",
    "fruit": "apple banana cherry grape lemon mango peach pear plum melon",
    "city": "Paris London Rome Berlin Madrid Vienna Oslo Lisbon Prague Dublin",
    "trade": "baker farmer teacher doctor lawyer pilot painter tailor nurse miner",
}
FIRST = (
    "Mary John Anna Peter Laura David Susan Robert Karen Thomas Nancy Daniel Linda George Helen "
    "Edward Alice Frank Emma Henry Sarah Paul Julia Mark Clara Simon Grace Oliver Ruth Victor"
)
LAST = (
    "Stone Hill Brook Fields Wood Lake Rivers Banks Marsh Forest Snow Frost Winter Summer Day "
    "Knight King Bishop Page Cook Mason Smith Fisher Hunter Carter Potter Shepherd Miller Gardner "
    "Parker Wolf Fox Bird Swan Crane Hawk Finch Drake Lamb Bull Young Small Long Short Strong "
    "Sharp Swift Wise Good Bright Silver Gold Steel Glass Rose Lily Berry Moss Reed Ash"
)
BEGUN = (
    "As the neighbours say,", "In the town register", "Everybody here knows that",
    "According to the paper,", "It is no secret that", "If I remember well,",
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """Whose what is which, as a sentence."""

    person: str
    relation: str
    value: str
    text: str

    @property
    def question(self) -> str:
        return f"What is the {self.relation} of {self.person}? Name only the {self.relation}."


def register(seed: int, held: bool) -> list[Fact]:
    """Facts in an order by lot. held: of people that are asked about, not of those to train on."""
    chance = Random(seed)
    last = LAST.split()[::2] if held else LAST.split()[1::2]
    people = [f"{a} {b}" for a in FIRST.split() for b in last]
    chance.shuffle(people)
    found = []
    for relation, values in RELATIONS.items():
        for _ in range(PEOPLE):
            person, value = people.pop(), chance.choice(values.split())
            article = "" if relation in ("city", "colour", "drink", "sport") else "the "
            said = f"the {relation} of {person} is {article}{value}."
            found.append(Fact(person, relation, value, f"{chance.choice(BEGUN)} {said}"))
    chance.shuffle(found)
    return found


def document(facts: list[Fact]) -> str:
    """Facts in one text."""
    return " ".join(each.text for each in facts)


def right(said: str, fact: Fact) -> bool:
    """Whether the last line of an answer says the value, and no other one of its relation."""
    words = "".join(c if c.isalnum() else " " for c in said.strip().split("\n")[-1].lower()).split()
    named = {each for each in RELATIONS[fact.relation].split() if each.lower() in words}
    return named == {fact.value}
