"""Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", COLM
2024, arXiv:2404.06654.

Thirteen tasks in four families: needles (eight), variable tracking, counting words (two), and
questions (two, from published files). Figures are the paper's released ones: counts, tokens of a
reply, kinds of keys and values. Sentences are ours, and every order is drawn for each sample, where
the released code repeats one. A number is not found within a longer
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.matching import contains_all, contains_any
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted
from lengthwise.evaluation.tasks.generated._shared.words import missing_words
from lengthwise.evaluation.tasks.generated.ruler.needles import NEEDLES, needles
from lengthwise.evaluation.tasks.generated.ruler.questions import FILES, file_of, questions
from lengthwise.evaluation.tasks.generated.ruler.tracing import tracing
from lengthwise.evaluation.tasks.generated.ruler.words import common_words, frequent_words
from lengthwise.methods.options import option

_SETS = {"qa_1": "SQuAD", "qa_2": "HotpotQA"}


@dataclass(frozen=True)
class RulerBenchmark:
    """RULER. Scored by the share of the references that a reply holds; of questions, by any."""

    name: ClassVar[str] = "ruler"
    paper: ClassVar[Paper] = Paper(
        "RULER: What's the Real Context Size of Your Long-Context Language Models?",
        "Hsieh et al.", 2024, arxiv="2404.06654", venue="COLM",
        code="https://github.com/NVIDIA/RULER",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        **{name: spec.difficulty for name, spec in NEEDLES.items()},
        "vt": Difficulty("high", "low"),
        "cwe": Difficulty("low", "high"),
        "fwe": Difficulty("low", "high"),
        "qa_1": Difficulty("high", "low"),
        "qa_2": Difficulty("high", "low"),
    }

    data: str = option("", "folder or file of SQuAD (qa_1) and HotpotQA (qa_2)")
    chains: int = option(1, "chains of variables of vt", low=1, high=20)
    hops: int = option(4, "hops of a chain of vt", low=1, high=50)
    exponent: float = option(2.0, "of Zipf's law in fwe", low=1.1, high=5.0)

    def missing(self, task: str) -> str:
        """Published files, or words."""
        if task in FILES:
            return "" if file_of(task, self.data) else self._lacks(task)
        return missing_words() if task == "cwe" or task in NEEDLES else ""

    def _lacks(self, task: str) -> str:
        at = f", which {self.data} is not or does not hold" if self.data else ""
        return (
            f"the published file of {_SETS[task]}{at}: give ruler(data=FOLDER) with "
            f"{' or '.join(FILES[task])}"
        )

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Samples of one of the thirteen."""
        if task in NEEDLES:
            return needles(task, wanted)
        if task == "vt":
            return tracing(wanted, self.chains, self.hops)
        if task == "cwe":
            return common_words(wanted)
        if task == "fwe":
            return frequent_words(wanted, self.exponent)
        path = file_of(task, self.data)
        if path is None:
            raise LengthwiseError(f"ruler/{task} needs {self._lacks(task)}")
        return questions(task, wanted, path)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The share of the references that stand in the reply; of questions, 1 for any."""
        if task in FILES:
            return {"contains_any": contains_any(said, sample.references)}
        return {"contains_all": contains_all(said, sample.references)}


__all__ = ["RulerBenchmark"]
