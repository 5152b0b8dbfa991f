"""What a judge is: prompts made of a sample and a reply, and a parser of what a model says to them.

Its dataclass fields are its options, written as those of a method are: `pair(reference=false)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Protocol

from lengthwise._utils.papers import Papers
from lengthwise._utils.registry import Registry
from lengthwise.methods.options import way_of, written
from lengthwise.recipes.parser import parse_one

# Figures that a judge's answer gave.
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged.

    question: that was asked. references: right replies, maybe none. replies: the one that is
    judged, and where a judge compares, the other one.
    """

    question: str
    references: tuple[str, ...]
    replies: tuple[str, ...]


class Judge(Protocol):
    """A judge. A frozen dataclass of options.

    paper: that published it. scale: least and most of its score, as published; more is better.
    most: tokens of an answer. compares: whether it is shown two replies. grounded: whether it needs
    a reference.
    """

    name: ClassVar[str]
    paper: ClassVar[Papers]
    scale: ClassVar[tuple[float, float]]
    most: ClassVar[int]
    compares: ClassVar[bool]

    @property
    def grounded(self) -> bool:
        """Whether samples without a reference cannot be judged."""
        ...

    def asked(self, case: Case) -> Seq[str]:
        """Prompts, each asked by itself; none where nothing needs to be asked.

        Args:
            case: what is judged.
        """
        ...

    def read(self, part: int, said: str, case: Case) -> Figures | None:
        """What an answer says; None for one that cannot be read, or is outside the scale.

        Args:
            part: which prompt it answers.
            said: the answer.
            case: what is judged.
        """
        ...

    def verdict(self, parts: Seq[Figures], case: Case) -> Figures:
        """The score, first, and other figures.

        Args:
            parts: what was read of the answer to each prompt.
            case: what is judged.
        """
        ...


def _check(name: str, found: object) -> type[Judge]:
    return way_of(name, found, (Judge,), "judge")


JUDGES: Registry[type[Judge]] = Registry("lengthwise.judges", "judge", _check)


class _Known(Mapping[str, type[Judge]]):
    """The judges by name, each imported when it is taken."""

    def __getitem__(self, name: str) -> type[Judge]:
        found = JUDGES.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(JUDGES)

    def __len__(self) -> int:
        return len(JUDGES)


def judge_of(given: str | Judge) -> Judge:
    """A judge by its text.

    Args:
        given: a name with options, such as "pair(reference=false)"; or a judge.

    Raises:
        RecipeError: for an unknown name, with the nearest one, and for wrong options.
    """
    return parse_one(given, _Known()) if isinstance(given, str) else given


def text_of(judge: Judge) -> str:
    """A judge as it is written, with the options that differ from their defaults.

    Args:
        judge: any.
    """
    return written(judge)


def listed(references: Seq[str]) -> str:
    """Right replies for a prompt, a line each where there are several.

    Args:
        references: at least one.
    """
    return references[0] if len(references) == 1 else "\n".join(f"- {each}" for each in references)


__all__ = ["JUDGES", "Case", "Figures", "Judge", "judge_of", "listed", "text_of"]
