"""Recipes before a model behind a server: answers, tokens and seconds as they are seen from here.

What a server keeps of keys and values, and its probabilities, stay its own: those fields are None.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence as Seq
from dataclasses import replace
from typing import Any

from lengthwise import recipes as recipe_module
from lengthwise.api.answer import prompt_text
from lengthwise.api.remote_model import Asked, RemoteModel, prompting_alone
from lengthwise.documents.document import Document
from lengthwise.errors import Refused
from lengthwise.evaluation.compare.known import Known, first_tokens
from lengthwise.evaluation.metrics.evidence import answer_fields, evidence_fields
from lengthwise.evaluation.metrics.expected import contains
from lengthwise.evaluation.metrics.reading import EvaluationProgress
from lengthwise.evaluation.metrics.row import CompareRow, text_size


class RemoteRows:
    """Rows of a model behind a server. expect: a known answer of each question, or none."""

    def __init__(
        self, model: RemoteModel, known: Known, questions: Seq[str], expect: Seq[str], new: int,
        progress: EvaluationProgress,
    ) -> None:  # fmt: skip
        self.model, self.known, self.questions = model, known, questions
        self.expect, self.new, self.progress = expect, new, progress

    def rows(self, lengths: Seq[int], recipes: Seq[str]) -> Iterator[CompareRow]:
        """The rows of every length, recipe and question, in their order.

        Args:
            lengths: in tokens of the document; none reads all of it.
            recipes: as they print.
        """
        whole = self.known.document
        total = self.model.count(whole.text)
        for length in lengths or (total,):
            text = whole.text if length == total else first_tokens(self.model, whole.text, length)
            document = whole if length == total else Document(whole.name, text)
            for recipe in recipes:
                base = CompareRow(
                    recipe=recipe, model=self.model.name, dtype="as served", device=self.model.url,
                    length=length, max_new_tokens=self.new, notes=tuple(self.model.notes),
                    **text_size(document.text),
                )  # fmt: skip
                yield from self._of_recipe(base, document)

    def _of_recipe(self, base: CompareRow, document: Document) -> Iterator[CompareRow]:
        self.progress.stage(f"{base.recipe}: asking", len(self.questions), "questions")
        for number, question in enumerate(self.questions):
            try:
                fields = self._answer(base.recipe, document, number)
            except Refused as refusal:
                fields = {"refused": str(refusal)}
            yield replace(base, question=question, **fields)
            self.progress.advance(1)

    def _answer(self, recipe: str, document: Document, number: int) -> dict[str, Any]:
        method = prompting_alone(self.model, recipe_module.parse(recipe))
        before, begin = self.model.tokens_read, time.perf_counter()
        read = prompt_text(self.model, method, [document], self.questions[number])
        seconds = time.perf_counter() - begin
        found = self.model.ask(read.text, read.question, Asked(self.new))
        said, metrics = found.text.strip(), found.metrics
        fields: dict[str, Any] = {
            "answer": said, "prompt_tokens": metrics.prompt_tokens,
            "tokens_read": self.model.tokens_read - before, "answer_tokens": metrics.decoded + 1,
            "notes": (*self.model.notes, *read.notes, *metrics.notes),
            "ttft_s": metrics.ttft_s + seconds, "tokens_per_s": metrics.tokens_per_s or None,
        }  # fmt: skip
        if self.expect:
            wanted = self.expect[number]
            fields |= {"expected": wanted, "expected_found": contains(said, wanted)}
        if self.known.items:
            fields |= answer_fields(said, self.known.answers[number])
            spans = self.known.evidence[number]
            if all(stop <= len(document.text) for _, stop in spans):
                fields |= evidence_fields(spans, read.passages, read.choices)
        return fields


__all__ = ["RemoteRows"]
