"""Notes that a model writes of texts, and of notes again until they fit a budget.

texts --write--> notes --those side by side, written again--> fewer notes --> within a budget
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence as Seq
from dataclasses import dataclass

from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.prompts import GAP, Passage, TextModel, cut, in_order, joined
from lengthwise.retrieval.lexical import words

# What a model is asked to say of a text that tells nothing, and what is read if none told anything.
NONE = "NONE"
NOTHING = "The documents say nothing about it."


@dataclass(frozen=True)
class Writer:
    """A model that writes notes.

    ask: what it is told to do with a text. again: and with notes that it has written.
    chunk: most tokens of the notes that are written again together. size: most tokens of a note,
    at most half a chunk.
    """

    model: TextModel
    ask: str
    again: str
    chunk: int
    size: int

    def notes(self, texts: Iterable[str], budget: int) -> list[Passage]:
        """Notes of texts, of at most `budget` tokens together; none if nothing was told.

        Args:
            texts: each is shown to the model alone. Blank ones are left out.
            budget: at least 1.
        """
        size = min(self.size, budget)
        told = (note_of(self.model, text, self.ask, size) for text in texts if text.strip())
        return self.fitted([each for each in told if each is not None], budget)

    def fitted(self, notes: list[Passage], budget: int) -> list[Passage]:
        """Notes of at most `budget` tokens together, written again as often as that takes.

        Args:
            notes: each of at most half a chunk, in their order.
            budget: at least 1.
        """
        apart = self.model.count(GAP)
        while self.model.count(joined(notes)) > budget:
            if len(notes) == 1:
                return [_cut(self.model, notes[0].text, budget)]
            groups = self._groups(notes)
            # What fewer notes leave of the budget makes them longer.
            each = max(min(self.size, budget), budget // len(groups) - apart)
            notes = [self._again(group, min(each, self.chunk // 2)) for group in groups]
        return notes

    def _groups(self, notes: Seq[Passage]) -> list[list[Passage]]:
        """Notes side by side, as many as a chunk holds and two at least, but for the last one."""
        groups: list[list[Passage]] = [[]]
        for note in notes:
            group = groups[-1]
            if len(group) > 1 and self.model.count(joined([*group, note])) > self.chunk:
                groups.append(group := [])
            group.append(note)
        return groups

    def _again(self, group: Seq[Passage], size: int) -> Passage:
        text = joined(group)
        if len(group) == 1 and self.model.count(text) <= size:
            return group[0]
        told = self.model.write(text, self.again, size)
        # Notes are not lost because nothing was written of them.
        return _cut(self.model, text if _says_nothing(told) else told, size)


def note_of(model: TextModel, text: str, ask: str, size: int) -> Passage | None:
    """A note of a text; None where the model says that there is nothing to note.

    Args:
        model: that writes it.
        text: that is shown.
        ask: what it is told to do with the text.
        size: most tokens of the note.
    """
    told = model.write(text, ask, size)
    return None if _says_nothing(told) else _cut(model, told, size)


def or_nothing(model: TextModel, notes: Seq[Passage], budget: int) -> tuple[Passage, ...]:
    """The notes, or one that says that there are none.

    Args:
        model: that counts tokens.
        notes: that fit the budget.
        budget: at least 1.
    """
    return tuple(notes) or (_cut(model, NOTHING, budget),)


def together(passages: Seq[Passage], model: TextModel, size: int) -> Iterator[str]:
    """Passages in as few texts as hold them.

    Args:
        passages: in their order; each alone may have more than `size` tokens.
        model: that counts them.
        size: most tokens of several.
    """
    held: list[Passage] = []
    for each in passages:
        if held and model.count(joined(in_order([*held, each]))) > size:
            yield joined(in_order(held))
            held = []
        held.append(each)
    if held:
        yield joined(in_order(held))


def _cut(model: TextModel, text: str, size: int) -> Passage:
    return Passage(cut(model, Passage(text), size).text)


def _says_nothing(text: str) -> bool:
    """Whether a model said that there is nothing: the agreed word, however often, or no word."""
    return set(words(text)) <= {NONE.casefold()}


def check_sizes(chunk: int, note: int) -> None:
    """Refuses notes of which a chunk does not hold two: they would never get fewer.

    Args:
        chunk: most tokens of a part.
        note: most tokens of a note.

    Raises:
        RecipeError: says so.
    """
    if 2 * note > chunk:
        raise RecipeError(
            f"note={note}: chunk={chunk} does not hold two such notes, so that notes would not get "
            f"fewer; give note={max(1, chunk // 2)} or less, or a larger chunk"
        )


def check_fits(method: object, model: TextModel, tokens: int, told: str, holds: str) -> None:
    """Refuses parts that are more, with what the model is told, than it was trained to read.

    Args:
        method: as a recipe writes it.
        model: that reads the parts.
        tokens: most tokens of a part, and of what is written of it.
        told: the longest instruction.
        holds: what these are, in words.

    Raises:
        Refused: says so.
    """
    asked = model.count(told)
    if tokens + asked > model.trained_length:
        raise Refused(
            f"{method}: {holds} are {tokens:,} tokens and the instruction {asked:,}, "
            f"but {model.name} was trained to read {model.trained_length:,}",
            "give a smaller chunk or a shorter question",
        )


__all__ = [
    "NONE", "NOTHING", "Writer", "check_fits", "check_sizes", "note_of", "or_nothing", "together",
]  # fmt: skip
