"""Recipes that choose what enters the context: a prompt for every question and every probe.

What they read hangs on the question, so nothing is read once for several. Seconds and tokens count
what it took to choose. Losses by position and fidelity are of a text that is read whole: there are
none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F

from lengthwise import recipes as recipe_module
from lengthwise.api.answer import write_prompt
from lengthwise.api.model import Model
from lengthwise.documents.document import Document
from lengthwise.engine import loop
from lengthwise.engine.forced import forced
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.evaluation.compare.answering import Answers
from lengthwise.evaluation.metrics.evidence import evidence_fields
from lengthwise.evaluation.metrics.reading import Case, EvaluationProgress, Reader
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.tasks.probes import Probe
from lengthwise.methods.base import Method
from lengthwise.methods.prompts import PromptText, whole
from lengthwise.recipes import Recipe


class Prompted:
    """One recipe with a prompting method at one length. new: most tokens of an answer."""

    def __init__(
        self, model: Model, case: Case, recipe: Recipe, new: int, chunk: int | None,
        progress: EvaluationProgress,
    ) -> None:  # fmt: skip
        assert recipe.prompting is not None
        self.method: Method = recipe.prompting
        self.model, self.case, self.new, self.chunk = model, case, new, chunk
        self.recipe, self.progress = recipe, progress
        self.rest = str(recipe.after_prompting)
        self.plan = model.plan(self.rest)

    def rows(self, base: CompareRow) -> Iterator[CompareRow]:
        """The row of every question.

        Args:
            base: what all of them have in common.
        """
        case = self.case
        document = Document("document", case.text)
        base = replace(base, reads_as_full=False, fidelity_tokens=0, **self._probes())
        for number, question in enumerate(case.prompt.questions):
            self.progress.stage(f"{self.recipe}: choosing", 1, "prompts")
            written = write_prompt(self.model, self.method, [document], question, self.chunk)
            here = slice(number, number + 1)
            own = Case(
                case.length, (), written.ids, quality=False, notes=case.notes,
                expected=case.expected[here], answers=case.answers[here],
            )  # fmt: skip
            tokens = len(written.ids.prefix) + len(written.ids.suffixes[0])
            self.plan.check_prompt(tokens)
            reader = Reader(self.model, own, self.plan, False, self.chunk, self.progress)
            fields = Answers(reader, self.rest, self.new).answer(0)
            fields["ttft_s"] += written.seconds
            fields["tokens_read"] = tokens + written.tokens_read
            if case.evidence:
                read = written.text.passages
                fields |= evidence_fields(case.evidence[number], read, written.text.choices)
            fields["notes"] = (*fields["notes"], *written.text.notes)
            # Full attention to other text is not what full attention says.
            fields["lossless"] &= written.text == PromptText(whole([document.text]), question)
            yield replace(base, question=question, **fields)

    def _probes(self) -> dict[str, Any]:
        """Losses of what is planted, each asked for behind what is read when it is asked."""
        probes = self.case.probes
        if not self.case.quality or probes is None:
            return {}
        tokenizer: Any = self.model._tokenizer()
        text = tokenizer.decode(list(probes.context), skip_special_tokens=True)
        document = Document("document", text)
        self.progress.stage(f"{self.recipe}: probing", len(probes.probes), "probes")
        losses = {}
        for probe in probes.probes:
            losses[probe] = self._probe(document, probe)
            self.progress.advance(1)
        depths = tuple(
            (probe.depth, loss) for probe, loss in losses.items() if probe.name.startswith("needle")
        )
        return {
            "copy_loss": next(loss for probe, loss in losses.items() if probe.name == "copy"),
            "needle_loss": fmean(loss for _, loss in depths),
            "needle_by_depth": depths,
        }

    def _probe(self, document: Document, probe: Probe) -> float:
        tokenizer: Any = self.model._tokenizer()
        asked = tokenizer.decode(list(probe.suffix)).strip()
        written = write_prompt(self.model, self.method, [document], asked, self.chunk)
        ids = [*self.model.encode(written.text.text, special="text"), *probe.suffix]
        self.plan.check_prompt(len(ids))
        sequence = Sequence(self.model.adapted, self.plan, expected=len(ids) + len(probe.target))
        loop.prefill(sequence, ids, self.chunk)
        sequence.end_prefill()
        logits = torch.cat(list(forced(sequence, probe.target))).float()
        targets = torch.tensor(probe.target, device=logits.device)
        return float(F.cross_entropy(logits, targets, reduction="none")[probe.skip :].mean())


def prompted(recipe: str) -> Recipe | None:
    """The recipe, where a method of it says what enters the context."""
    found = recipe_module.parse(recipe)
    return None if found.prompting is None else found


__all__ = ["Prompted", "prompted"]
