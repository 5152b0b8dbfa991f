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
from lengthwise.methods.prompts import (
    PromptText,
    TextModel,
    logits_of,
    pieces,
    whole,
    within,
)
from lengthwise.methods.text_budget import text_budget, tokens_of
from lengthwise.retrieval.sentences import sentences


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

    @classmethod
    def identity(cls, length: int) -> XL3M:
        return cls(budget=Budget(length))

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        model = logits_of(model, self.name)
        length, budget = tokens_of(documents, self.budget, model)
        if length <= budget:
            return PromptText(whole(documents), question)
        if self.segment + model.count(question) > model.trained_length:
            raise Refused(
                f"{self}: a segment and the question are more than the {model.trained_length:,} "
                f"tokens that {model.name} was trained to read",
                "give a smaller segment or a shorter question",
            )
        split = partial(sentences, language=self.language)
        found = list(pieces(documents, model, self.segment, split))
        unsure = []
        for each in found:
            logs = model.foretell(each.text, question, self.tokens, self.ask == "plain")
            unsure.append(float(-(logs.exp() * logs).sum(-1).mean()))
        order = sorted(range(len(found)), key=lambda n: unsure[n])
        return PromptText(within(model, [found[n] for n in order], budget), question)


__all__ = ["XL3M"]
