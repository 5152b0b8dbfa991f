"""LongICLBench: classes that are learned from demonstrations, which fill the context.

Li and others, "Long-context LLMs Struggle with Long In-context Learning", 2024, arXiv:2404.02060.
The published rows hold whole prompts of one to five rounds ("1 Round Prompt" ...), each round with
a demonstration a class, and the label. A sample has the most rounds that fit, or those of `rounds`;
nothing is cut, for then classes would be missing. The prompt is asked as it is, without a chat
template; its last lines are the question. Replies have up to 100 tokens. Of four sets the first
line must be the label, case aside. Two have F1:

    fewnerd   entities with their types, a line each
    dialogre  relations with commas between, matched by place

Ours differs: F1 is of each reply, the paper's micro F1 of all together, which is 2 right / (said +
wanted) of the sums of these figures. The paper stops DialogRE at 500 labels. Of its dialogues only
the last two lines are the question. How the hub writes the entities of a label is not documented:
JSON, a Python dictionary, and pairs with a line end or a comma between are read.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.classes import (
    Counts,
    entity_counts,
    read_entities,
    relation_counts,
)
from lengthwise.evaluation.scorers.table import scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, NoRoom, Sample, Wanted
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    COUNTED,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source, rows_of
from lengthwise.evaluation.tasks.published._shared.values import text_in
from lengthwise.methods.options import option

MOST, ROUNDS = 100, 5
_SPLITS = {
    "goemotion": "GoEmotion", "banking77": "BANKING77", "tacred": "TacRED",
    "fewnerd": "FewNERD", "discovery": "Discovery", "dialogre": "DialogRE",
}  # fmt: skip
# An entity with its type, behind which a line or a comma ends it.
_KINDS = "art|building|event|location|organization|other|person|product"
_PAIR = re.compile(rf"(.+?): ((?:{_KINDS})-[^\s,]+)(?:,?\s+|$)")
# The relations of DialogRE, with those of the labels, are all that there are.
RELATIONS = (
    "gpe:residents_of_place", "gpe:visitors_of_place", "org:employees_or_members", "org:students",
    "per:acquaintance", "per:age", "per:alternate_names", "per:alumni", "per:boss", "per:children",
    "per:client", "per:date_of_birth", "per:dates", "per:employee_or_member_of", "per:friends",
    "per:girl/boyfriend", "per:major", "per:negative_impression", "per:neighbor", "per:origin",
    "per:other_family", "per:parents", "per:pet", "per:place_of_residence", "per:place_of_work",
    "per:positive_impression", "per:roommate", "per:schools_attended", "per:siblings", "per:spouse",
    "per:subordinate", "per:title", "per:visited_place", "per:works",
)  # fmt: skip


@dataclass(frozen=True)
class LongICL(PublishedBenchmark):
    """LongICLBench's six sets."""

    name: ClassVar[str] = "longicl"
    paper: ClassVar[Paper] = Paper(
        "Long-context LLMs Struggle with Long In-context Learning", "Li et al.", 2024,
        arxiv="2404.02060", code="https://github.com/TIGER-AI-Lab/LongICLBench",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        **dict.fromkeys(("goemotion", "banking77", "tacred", "discovery"), COUNTED),
        "fewnerd": SPREAD,
        "dialogre": SPREAD,
    }

    compat: bool = option(True, "scores to the letter of the released code, with its faults")

    rounds: int | None = option(
        None, "demonstrations of each class (none: the most that fit)", low=1, high=ROUNDS
    )

    def source(self, task: str) -> Source:
        """A Parquet file a task, a split of the hub's data set."""
        split = _SPLITS[task]
        files = (f"{split}-00000-of-00001.parquet", f"{split}.parquet", f"{split}.jsonl")
        columns = (*(_column(n) for n in range(1, ROUNDS + 1)), "label")
        return Source(files, columns, "TIGER-Lab/LongICLBench", split=split)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """The same queries of the most rounds that fit for all of them."""
        rows = list(enumerate(rows_of(f"{self.name}/{task}", self.source(task), self.data), 1))
        facts: dict[str, Any] = {}
        if task == "dialogre":
            named = self.made(task, rows, lambda row: _parts(text_in(row, "label")))
            facts = {"relations": sorted({*RELATIONS, *named})}
        for rounds in [self.rounds] if self.rounds else range(ROUNDS, 0, -1):
            every = self.made(task, rows, partial(_samples, task, rounds, facts))
            drawn = [sample for _, sample in self._drawn(task, wanted, every)]
            if all(wanted.fits(each) for each in drawn):
                yield from drawn
                return
        asked = f"{rounds} round" + ("s" if rounds > 1 else "")
        raise NoRoom(
            f"{self.name}/{task} has no samples of {wanted.length:,} tokens: {asked} of "
            "demonstrations are longer; give a greater length"
        )

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row of one round is a sample."""
        yield from _samples(task, self.rounds or 1, {"relations": list(RELATIONS)}, row)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Whether the label is right; F1 of entities or relations, with what it counts."""
        if task == "fewnerd":
            read = read_entities(said, sample.facts["sentence"], compat=self.compat)
            return _figures("entity_f1", entity_counts(read, sample.facts["entities"]))
        if task == "dialogre":
            line = said.strip().split("\n")[0]
            known = sample.facts["relations"]
            return _figures("relation_f1", relation_counts(line, sample.references[0], known))
        return {"label_exact": scorer("label_exact")(said, sample.references)}


def _figures(name: str, found: Counts) -> Mapping[str, float]:
    counts = {"right": found.right, "said": found.said, "wanted": found.wanted}
    return {name: found.f1, **{key: float(each) for key, each in counts.items()}}


def _samples(task: str, rounds: int, facts: Mapping[str, Any], row: Row) -> Iterator[Sample]:
    """A row: the question is its last sentence, or its last two lines."""
    label, asked = text_in(row, "label"), 2
    if task == "fewnerd":
        asked = 1
        facts = {"entities": _entities(label)}
    lines = text_in(row, _column(rounds)).rstrip().split("\n")
    context, question = "\n".join(lines[:-asked]), "\n".join(lines[-asked:])
    if task == "fewnerd":
        facts = {**facts, "sentence": question.partition(": ")[2]}
    facts = {**facts, "rounds": rounds}
    yield Sample(context, question, (label,), MOST, facts=facts, chat=False, own="")


def _entities(label: str) -> dict[str, str]:
    """Types by entity, however a label has them."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(label.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(found, dict) and all(isinstance(each, str) for each in found.values()):
            return {str(entity): kind for entity, kind in found.items()}
    pairs: dict[str, str] = {}
    place, text = 0, label.strip()
    while place < len(text):
        pair = _PAIR.match(text, place)
        if pair is None:
            raise ValueError(f"column 'label' holds {label[:40]!r}; wanted are entities with types")
        pairs[pair[1]] = pair[2]
        place = pair.end()
    return pairs


def _column(rounds: int) -> str:
    return f"{rounds} Round Prompt"


def _parts(label: str) -> list[str]:
    return [each.strip() for each in label.split(",") if each.strip()]


__all__ = ["MOST", "RELATIONS", "ROUNDS", "LongICL"]
