"""One sample of a task as a recipe answered it, as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class SampleRow:
    """What was asked, what was said, how good it is and what it cost.

    task: as it is written. recipe: as it prints. length: tokens that were wanted. depth: that was
    wanted, or None. number: of the sample among those alike, from 0. question, references, begin:
    of the sample. problem: which question it is, in a few signs, the same for its copies at any
    length and depth; "" in older files. facts: small ones of the sample, such as a published
    length. place: where in the context the answer stands, where that is known. context: its
    characters; it is not kept, for the seed makes it again. said: the reply, without `begin`.
    score: from 0 to 1; None where the recipe was refused or failed, and until a judge says. scores:
    all figures of the task. prompt_tokens, answer_tokens: of the request. tokens_read: these and
    those read to write the prompt. ttft_s, tokens_per_s, kv_bytes: as in `CompareRow`. cut_tokens:
    that the sample had more than fit. over: whether the prompt is longer than the model was trained
    to read. refused: why there is no reply.
    """

    task: str
    recipe: str
    length: int
    number: int
    depth: float | None = None
    place: float | None = None
    question: str = ""
    begin: str = ""
    references: tuple[str, ...] = ()
    problem: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    context: int = 0
    said: str = ""
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    answer_tokens: int = 0
    tokens_read: int = 0
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    kv_bytes: int | None = None
    cut_tokens: int = 0
    over: bool = False
    refused: str | None = None

    @property
    def sample(self) -> tuple[str, int, float | None, int]:
        """Which sample it is of: the same for all recipes."""
        return self.task, self.length, self.depth, self.number

    @property
    def unit(self) -> Hashable:
        """What samples of one question have in common: they are one where samples are counted."""
        return self.problem or self.sample

    @property
    def key(self) -> tuple[str, int, float | None, int, str]:
        """Which sample under which recipe."""
        return *self.sample, self.recipe

    def dump(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return asdict(self)

    def to_json(self) -> str:
        """The row as one line of JSON."""
        return json.dumps(self.dump(), ensure_ascii=False)

    @classmethod
    def read(cls, line: bytes | str) -> Self:
        """What `dump` gave, of a line of JSON. Raises ValueError where it is none."""
        try:
            found = json.loads(line)
            known = {each.name for each in fields(cls)}
            row = cls(**{name: value for name, value in found.items() if name in known})
            object.__setattr__(row, "references", tuple(row.references))
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no row of a run ({error})") from error
        return row


__all__ = ["SampleRow"]
