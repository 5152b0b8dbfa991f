"""Three long dialogues whose later turns need earlier ones, with choices that can be scored.

SirLLM (arXiv 2405.12528) judges a streaming cache by them, and so do we, in words of our own:

    talk        short talks, one after another; of four remarks, which one answers the last?
    grocery     something to buy is named once, twenty plain questions follow, and then:
                which grocery was it?
    game        rock, paper, scissors against one who prefers one of them; each turn tells what
                the other chose the turn before, so that the preference can be learned

A turn is what the user says, what may be answered, and which answer is right. What a model chooses
is the answer it finds likeliest; it is said, and the dialogue goes on in the same sequence. All are
made from a seed; the authors' published files are read as well.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise.documents.json_lines import json_lines
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.dialogue_tables import GROCERIES, PLAIN, TALKS

MOVES = ("rock", "paper", "scissors")
# What beats each of them.
BEATS = {"rock": "paper", "paper": "scissors", "scissors": "rock"}
# How often the preferred move comes, and the two others.
SHARES = (0.5, 0.3, 0.2)
LETTERS = "ABCDEFGH"
DELAY = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """text: what the user says. choices: what may be answered. right: the number of the right one.
    counts: whether the turn is scored. theirs: in a game, the number of the user's move."""

    text: str
    choices: tuple[str, ...]
    right: int
    counts: bool = True
    theirs: int | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns of one sequence, in their order."""

    name: str
    turns: tuple[Turn, ...]


def grocery(seed: int = 0, delay: int = DELAY) -> Dialogue:
    """One errand, `delay` plain questions, and the question for the errand."""
    if not 1 <= delay <= len(PLAIN):
        raise LengthwiseError(f"delay={delay}: there are 1 to {len(PLAIN)} plain questions")
    draw = random.Random(seed)
    wanted = draw.choice(GROCERIES)
    turns = [Turn(f"I want you to buy this grocery: [{wanted}].", ("OK",), 0, counts=False)]
    for question, right, *wrong in draw.sample(PLAIN, delay):
        turns.append(_asked(question, right, wrong, draw, counts=False))
    others = draw.sample([each for each in GROCERIES if each != wanted], 3)
    turns.append(_asked("Which grocery did I want you to buy?", wanted, others, draw))
    return Dialogue("grocery", tuple(turns))


def game(prefers: str = "rock", rounds: int = 100, seed: int = 0) -> Dialogue:
    """Rounds against one who plays `prefers` half of the time."""
    if prefers not in MOVES or rounds < 1:
        raise LengthwiseError(
            f"a game against {prefers!r} of {rounds} rounds: allowed are {', '.join(MOVES)}, and "
            "at least one round"
        )
    draw = random.Random(seed)
    first = MOVES.index(prefers)
    order = [first, (first + 1) % 3, (first + 2) % 3]
    moves = draw.choices(order, SHARES, k=rounds)
    turns = []
    for number, move in enumerate(moves):
        text = "Let us play rock, paper, scissors. Choose one of them."
        if number:
            before = MOVES[moves[number - 1]]
            text = f"I chose [{before}]. Learn what I like, so that you win. Choose again."
        best = MOVES.index(BEATS[MOVES[move]])
        turns.append(Turn(text, MOVES, best, theirs=move))
    return Dialogue(f"game:{prefers}", tuple(turns))


def talks(count: int = len(TALKS), seed: int = 0) -> Dialogue:
    """So many short talks in one sequence; wrong answers come from other talks."""
    if not 1 <= count <= len(TALKS):
        raise LengthwiseError(f"{count} talks: there are 1 to {len(TALKS)}")
    draw = random.Random(seed)
    turns = []
    for number in draw.sample(range(len(TALKS)), count):
        others = [remark for i, talk in enumerate(TALKS) if i != number for remark in talk]
        for said, right in zip(TALKS[number][::2], TALKS[number][1::2], strict=True):
            turns.append(_asked(f"Which remark answers this one? {said}", right,
                                draw.sample(others, 3), draw))  # fmt: skip
    return Dialogue("talk", tuple(turns))


def _asked(
    text: str, right: str, wrong: Sequence[str], draw: random.Random, counts: bool = True
) -> Turn:
    choices = [right, *wrong]
    draw.shuffle(choices)
    listed = " ".join(f"({LETTERS[i]}) {each}" for i, each in enumerate(choices))
    return Turn(f"{text} Choices: {listed}", tuple(choices), choices.index(right), counts)


@dataclass
class Score:
    """Of the turns that count: how many were right and, in a game, how many were ties."""

    asked: int = 0
    right: int = 0
    ties: int = 0

    def add(self, turn: Turn, chosen: int) -> None:
        if turn.counts:
            self.asked += 1
            self.right += chosen == turn.right
            self.ties += chosen == turn.theirs

    @property
    def accuracy(self) -> float:
        """Share of right choices; of a game, of rounds that were won."""
        return self.right / max(1, self.asked)

    @property
    def lost(self) -> int:
        """Rounds of a game that were neither won nor tied."""
        return self.asked - self.right - self.ties


def read_dialogues(path: str | Path) -> list[Dialogue]:
    """Dialogues of one of the authors' files: JSON lines with `id`, `question` (`stem`, `choices`
    of `label` and `text`), `answerKey`, and in a game `user_choice`.

    Ids say what belongs together: key_7, 7 and answer_7 are one errand of the groceries, of which
    the last turn counts; 7_1 and 7_3 are one talk. A game is one dialogue.
    Raises DocumentError, naming the line, where one is not of that form.
    """
    path = Path(path)
    found: dict[str, list[Turn]] = {}
    for number, record in json_lines(path):
        try:
            name, turn = _published(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DocumentError(
                f"{path.name}, line {number}: a turn has an `id`, a `question` with `stem` and "
                "`choices`, and an `answerKey` that is one of their labels"
            ) from error
        found.setdefault(name, []).append(turn)
    return [Dialogue(f"{path.stem}:{name}", tuple(turns)) for name, turns in found.items()]


def _published(record: dict[str, Any]) -> tuple[str, Turn]:
    """The dialogue a record belongs to, and its turn."""
    question = record["question"]
    labels = [str(choice["label"]) for choice in question["choices"]]
    choices = tuple(str(choice["text"]).strip() for choice in question["choices"])
    text, right = str(question["stem"]).strip(), labels.index(record["answerKey"])
    if "user_choice" in record:
        theirs = labels.index(record["user_choice"])
        return "game", Turn(text, choices, right, theirs=theirs)
    kind, _, last = str(record["id"]).partition("_")
    if len(choices) > 1:
        text += " Choices: " + " ".join(
            f"({label}) {choice}" for label, choice in zip(labels, choices, strict=True)
        )
    talk = kind.isdigit() and bool(last)
    return kind if talk or not last else last, Turn(
        text, choices, right, counts=talk or kind == "answer"
    )
