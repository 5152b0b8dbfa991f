"""XL3M: the segments behind which the model is surest what to answer.

Wang and others, "XL3M: A Training-free Framework for LLM Length Extension Based on Segment-wise
Inference", 2024, arXiv:2405.17755. The documents are cut in segments, the question is asked behind
each alone, and

    E(s) = - sum over tokens v of p(v | s, question) log p(v | s, question)

is how unsure the model is of its answer's first token. The segments of least E are spliced in the
order of the documents, and the question is asked once more behind them. Segments are judged alone:
what only several of them say together is missed.

Ours: segments end at sentences and not after a fixed number of tokens, so no overlap is needed. The
paper's question is the last tokens of a prompt, right behind the segment, and so it is here; behind
a chat template (`ask=chat`) the answer's first token is a formality ("The") and says little.
`tokens` takes the mean over more of them, written greedily. Sizes are ours: no code was released.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompting._shared.choosing import choose, split_at
from lengthwise.methods.prompts import LogitModel, Passage, PromptText, TextModel, logits_of
from lengthwise.methods.text_budget import text_budget


@dataclass(frozen=True)
class XL3M(Method):
    """Asks behind every segment alone, and reads those behind which the answer is surest."""

    name: ClassVar[str] = "xl3m"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "XL3M: A Training-free Framework for LLM Length Extension Based on Segment-wise Inference",
        "Wang and others", 2024, arxiv="2405.17755",
    )  # fmt: skip

    budget: Budget = text_budget()
    segment: int = option(512, "most tokens of a segment", low=1)
    tokens: int = option(1, "tokens of the answer whose entropy is averaged", low=1)
    ask: str = option(
        "plain", "how the question follows a segment: by itself, or in the chat template",
        choices=("plain", "chat"),
    )  # fmt: skip
    language: str = option("en", "code of the language whose sentences are cut")
    split: str = split_at()

    @classmethod
    def identity(cls, length: int) -> XL3M:
        return cls(budget=Budget(length))

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        judge = logits_of(model, self.name)
        return choose(
            documents, question, model, self.budget, self.segment, self.language,
            partial(self._sure, judge, question), split=self.split,
        )  # fmt: skip

    def _sure(self, model: LogitModel, question: str, segments: Seq[Passage]) -> Seq[float]:
        """-E of each segment."""
        if self.segment + model.count(question) > model.trained_length:
            raise Refused(
                f"{self}: a segment and the question are more than the {model.trained_length:,} "
                f"tokens that {model.name} was trained to read",
                "give a smaller segment or a shorter question",
            )
        found = []
        for each in segments:
            logs = model.foretell(each.text, question, self.tokens, self.ask == "plain")
            found.append(float((logs.exp() * logs).sum(-1).mean()))
        return found


__all__ = ["XL3M"]
