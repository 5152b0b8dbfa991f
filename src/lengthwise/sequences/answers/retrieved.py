"""Answers from what was retrieved, whatever it holds: tuning a model on noisy contexts.

Jin and others, "Long-Context LLMs Meet RAG: Overcoming Challenges for Long Inputs in RAG", 2024,
arXiv:2410.05983. The passages that a retriever ranks high and that do not answer, hard negatives,
do a model more harm than passages drawn at random. So it is trained on prompts that have them:

    implicit:      passages r1 .. rk, question --> answer
    with reasons:  passages r1 .. rk, question --> which passages tell, and why; answer

A reason is the paper's intermediate reasoning, which a stronger model writes there, shown the right
passages. Here each pair brings its own (`reasons=true`).

A prompt is written by the method of a recipe, the one that the model will be asked with, so that it
is trained on what it will read. `negatives=random` writes the paper's control: the passage that
answers, which is the best one that says the answer, and others by lot, for as many places.

Ours: the paper mixes in general data as a matter of course. Here `mixed=true` takes pairs without a
document as they are, and how many is up to the file.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method
from lengthwise.methods.options import option
from lengthwise.methods.prompting._shared.choosing import Ranking, read_best
from lengthwise.methods.prompting.reorder import Reorder
from lengthwise.methods.prompts import Passage, PromptText, TextModel
from lengthwise.recipes import parse
from lengthwise.sequences.answers.base import Example, Pair
from lengthwise.sequences.answers.compress import says
from lengthwise.sequences.builders.plain import LONGEST

RECIPE = "reorder(budget=1536)"


@dataclass(frozen=True)
class RetrievedAnswers:
    """A pair is an example that reads what a recipe chooses of its document."""

    name: ClassVar[str] = "retrieved"
    paper: ClassVar[Paper] = Reorder.paper
    document_mask: ClassVar[bool] = True
    target_token: ClassVar[bool] = False

    max_length: int = option(2048, "tokens of a row at most", low=8, high=LONGEST)
    recipe: str = option(RECIPE, "what chooses of the document, as the model will be asked")
    negatives: str = option(
        "retrieved", "the passages beside those that answer", choices=("retrieved", "random")
    )
    reasons: bool = option(False, "whether a pair's reason comes before its answer")
    mixed: bool = option(False, "whether pairs without a document are written as they are")

    def __post_init__(self) -> None:
        method = self.method()
        if self.negatives == "random" and not hasattr(method, "scores"):
            raise RecipeError(
                f"negatives=random: {method.name} does not rank passages; take bm25, dense or "
                "reorder, or leave negatives out"
            )

    @property
    def fields(self) -> tuple[str, ...]:
        reason = ("reason",) if self.reasons else ()
        return ("question", "document", *reason, "answer")

    @property
    def optional(self) -> tuple[str, ...]:
        return ("document",) if self.mixed else ()

    @property
    def tokens(self) -> tuple[str, ...]:
        return ()

    def method(self) -> Method:
        """The method that writes prompts.

        Raises:
            RecipeError: for a recipe that is none, or does other things than choose.
        """
        found = parse(self.recipe)
        if found.prompting is None or found.after_prompting.methods:
            raise RecipeError(
                f"recipe={self.recipe}: here it says what is read of a document, and no more; give "
                "one method of prompting, such as reorder(budget=1536) or bm25(budget=1536)"
            )
        return found.prompting

    def examples(self, pairs: Seq[Pair], seed: int) -> list[list[Example] | str]:
        method, chance = self.method(), Random(seed)
        found: list[list[Example] | str] = []
        for pair in pairs:
            said = f"{pair['reason']}\n{pair['answer']}" if self.reasons else pair["answer"]
            document = pair.get("document")
            chooser: Method | _Drawn = method
            if self.negatives == "random":
                chooser = _Drawn(method, pair["answer"], chance.getrandbits(64))  # type: ignore[arg-type]
            read = None if self.mixed and not document else chooser
            found.append([Example(pair["question"], said, document=document, chooser=read)])
        return found


@dataclass(frozen=True)
class _Drawn:
    """Reads the passage that answers, and others by lot in place of a method's best ones."""

    method: Ranking
    answer: str
    seed: int

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        def score(found: Seq[Passage]) -> Seq[float]:
            ranks = self.method.scores(question, found)
            telling = [n for n, each in enumerate(found) if says(each.text, self.answer)]
            best = max(telling or range(len(found)), key=lambda n: ranks[n])
            chance = Random(self.seed)
            return [2.0 if n == best else chance.random() for n in range(len(found))]

        return read_best(self.method, documents, question, model, score)


__all__ = ["RECIPE", "RetrievedAnswers"]
