"""LongICLBench: classes that are learned from demonstrations, which fill the context.

Li and others, "Long-context LLMs Struggle with Long In-context Learning", 2024, arXiv:2404.02060.
The published rows hold whole prompts of one to five rounds ("1 Round Prompt" ...), each round with
a demonstration a class, and the label. A sample has the most rounds that fit, or those of `rounds`;
nothing is cut, for then classes would be missing. The prompt is asked as it is, without a chat
template, its last two lines as the question. Replies have up to 100 tokens. The first line must be
the label, case aside; DialogRE's relations are matched by place.

Ours differs: DialogRE's F1 is of each reply, the paper's micro F1 of all together. Of its dialogues
only the last two lines are the question. Few-NERD is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.classes import relation_f1
from lengthwise.evaluation.scorers.table import scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, NoRoom, Sample, Wanted
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    COUNTED,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source, rows_of
from lengthwise.methods.options import option

MOST, ROUNDS = 100, 5
_SPLITS = {
    "goemotion": "GoEmotion", "banking77": "BANKING77", "tacred": "TacRED",
    "discovery": "Discovery", "dialogre": "DialogRE",
}  # fmt: skip


@dataclass(frozen=True)
class LongICL(PublishedBenchmark):
    """Five of LongICLBench's six sets."""

    name: ClassVar[str] = "longicl"
    paper: ClassVar[Paper] = Paper(
        "Long-context LLMs Struggle with Long In-context Learning", "Li et al.", 2024,
        arxiv="2404.02060", code="https://github.com/TIGER-AI-Lab/LongICLBench",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        **dict.fromkeys(("goemotion", "banking77", "tacred", "discovery"), COUNTED),
        "dialogre": SPREAD,
    }

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
        rows = rows_of(f"{self.name}/{task}", self.source(task), self.data)
        relations = sorted({part for row in rows for part in _parts(str(row["label"]))})
        facts = {"relations": relations} if task == "dialogre" else {}
        allowed = [self.rounds] if self.rounds else range(ROUNDS, 0, -1)
        for rounds in allowed:
            every = [_sample(row, rounds, facts) for row in rows]
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
        yield _sample(row, self.rounds or 1, {})

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Whether the label is right; F1 of relations."""
        if task != "dialogre":
            return {"label_exact": scorer("label_exact")(said, sample.references)}
        line = said.strip().split("\n")[0]
        known = sample.facts["relations"]
        return {"relation_f1": relation_f1([line], sample.references, relations=known)}


def _sample(row: Row, rounds: int, facts: Mapping[str, object]) -> Sample:
    lines = str(row[_column(rounds)]).rstrip().split("\n")
    return Sample(
        "\n".join(lines[:-2]), "\n".join(lines[-2:]), (str(row["label"]),), MOST,
        facts={**facts, "rounds": rounds}, chat=False,
    )  # fmt: skip


def _column(rounds: int) -> str:
    return f"{rounds} Round Prompt"


def _parts(label: str) -> list[str]:
    return [each.strip() for each in label.split(",") if each.strip()]


__all__ = ["MOST", "ROUNDS", "LongICL"]
