"""What a judge said of one reply, as a line of JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from lengthwise.evaluation.metrics.sample_row import SampleRow


@dataclass(frozen=True, slots=True)
class JudgementRow:
    """One reply as it was judged.

    task, recipe, length, depth, number, problem: of the reply's row in its run. case: which
    question and replies were shown, as `case_of` tells it. said: the last answer to each prompt.
    score: on the judge's scale; None where there is none. scores: all figures. tries: how often it
    was asked. failed: why there was no answer, such as what a server said. characters: of the
    reply, and of the one it was compared with. over: whether a prompt was longer than the judge was
    trained to read.
    """

    task: str
    recipe: str
    length: int
    number: int
    depth: float | None = None
    case: str = ""
    said: tuple[str, ...] = ()
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    tries: int = 0
    failed: str | None = None
    characters: tuple[int, ...] = ()
    over: bool = False
    problem: str = ""

    @property
    def sample(self) -> tuple[str, int, float | None, int]:
        """Which sample it is of: the same for all recipes."""
        return self.task, self.length, self.depth, self.number

    @property
    def unit(self) -> Hashable:
        """What samples of one question have in common, as a `SampleRow` has it."""
        return self.problem or self.sample

    @property
    def key(self) -> tuple[str, int, float | None, int, str]:
        """Which sample under which recipe, as a `SampleRow` has it."""
        return *self.sample, self.recipe

    @property
    def unread(self) -> bool:
        """Whether the judge answered, and what it said could not be read."""
        return self.score is None and self.failed is None

    def dump(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return asdict(self)

    @classmethod
    def read(cls, line: bytes | str) -> Self:
        """What `dump` gave, of a line of JSON. Raises ValueError where it is none."""
        try:
            found = json.loads(line)
            known = {each.name for each in fields(cls)}
            row = cls(**{name: value for name, value in found.items() if name in known})
            object.__setattr__(row, "said", tuple(row.said))
            object.__setattr__(row, "characters", tuple(row.characters))
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no judgement ({error})") from error
        return row


def case_of(row: SampleRow, other: SampleRow | None = None) -> str:
    """What a judge is shown of a reply, in a few signs.

    Args:
        row: of the reply.
        other: of the one that it is compared with.
    """
    replies = [f"{each.begin}{each.said}" for each in (row, other) if each is not None]
    shown = json.dumps([row.question, row.references, replies]).encode()
    return hashlib.sha256(shown).hexdigest()[:16]


__all__ = ["JudgementRow", "case_of"]
