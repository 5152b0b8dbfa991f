"""What the measurements of one recipe read, each text once, and what all recipes of a length share.

A recipe that reads a prompt exactly as full attention does, and acts only when it has ended, takes
full attention's reading where it may.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lengthwise._utils.progress import Progress
from lengthwise.api.document_prompt import DocumentPrompt
from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.placement import ORDINARY
from lengthwise.engine.kv_cache.retention import notes_prompt
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import FULL, Plan
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.metrics.spans import Span
from lengthwise.evaluation.tasks.probes import ProbeSet

# Last queries that a shared reading remembers for whichever recipe wants them.
REMEMBER = 64


class EvaluationProgress(Progress):
    """Told what is measured; does nothing. A stage's name begins with its recipe."""

    def row(self, row: CompareRow) -> None:
        """A row is finished."""


@dataclass
class TimedReading:
    """A reading of full attention: the sequence, the seconds it took, the losses met on the way."""

    sequence: Sequence
    seconds: float
    losses: Losses | None = None


@dataclass
class Case:
    """One length: its texts, and what full attention made of them (filled by the first recipe).

    document: ids of the document.
    prompt: of all its questions.
    quality: whether anything but costs is measured.
    probes: None where they are not wanted or do not fit; notes then says why.
    fidelity: a text and its continuation.
    notes: what holds for every row of this length.
    expected: known answers, one a question or none.
    text: the document, as it is read.
    answers: all right answers of each question, or none.
    evidence: where in the text each question's evidence stands, half-open runs, or none.
    truth: full attention's logits `[n, vocab]` on the continuation.
    full_losses: its losses by position.
    outputs: token ids of the answers, by recipe and number of the question.
    shared: full attention's readings, by name.
    """

    length: int
    document: tuple[int, ...]
    prompt: DocumentPrompt
    quality: bool
    probes: ProbeSet | None = None
    fidelity: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    notes: tuple[str, ...] = ()
    expected: Seq[str] = ()
    text: str = ""
    answers: Seq[Seq[str]] = ()
    evidence: Seq[Seq[Span]] = ()
    truth: Tensor | None = None
    full_losses: Mapping[int, float] | None = None
    outputs: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    shared: dict[str, TimedReading] = field(default_factory=dict)


def reads_as_full(plan: Plan) -> bool:
    """Whether a plan reads a prompt exactly as full attention does and acts only at its end."""
    changes = plan.rule, plan.query_scale, plan.selector, plan.bias, plan.head_table
    if any(each is not None for each in changes) or plan.placement != ORDINARY:
        return False
    retention = plan.retention() if plan.retention is not None else None
    return retention is None or not notes_prompt(retention)


class Reader:
    """One recipe at one length. shares: take full attention's readings where they are the same."""

    def __init__(
        self,
        model: Model,
        case: Case,
        plan: Plan,
        shares: bool,
        chunk: int | None,
        progress: EvaluationProgress,
    ) -> None:
        self.model, self.case, self.plan = model, case, plan
        self.shares, self.chunk, self.progress = shares, chunk, progress
        self._prefix: TimedReading | None = None

    @property
    def rounded(self) -> bool:
        """Whether the model computes in 16 bits."""
        return self.model.adapted.dtype != torch.float32

    def read(
        self, name: str, tokens: Seq[int], room: int, losses: Losses | None = None
    ) -> TimedReading:
        """A sequence that has read tokens, and the seconds it took (measured once if shared)."""
        if self.shares and name in self.case.shared:
            return self.case.shared[name]
        if name == "prompt" and self._prefix is not None:
            return self._prefix
        self.progress.stage(f"{self.plan.text}: reading ({name})", len(tokens), "tokens")
        plan = FULL if self.shares else self.plan
        sequence = Sequence(self.model.adapted, plan, expected=len(tokens) + room,
                            remember=REMEMBER if self.shares else 0)  # fmt: skip
        chunk = self.chunk
        if chunk is not None and losses is not None:
            # Where every token's loss is taken a chunk's logits are held, so the chunk stays small.
            chunk = min(chunk, loop.CHUNK)
        begin = time.perf_counter()
        loop.prefill(sequence, tokens, chunk, self.progress.advance, losses)
        loop.synchronize(self.model.adapted.device)
        found = TimedReading(sequence, time.perf_counter() - begin, losses)
        if self.shares:
            self.case.shared[name] = found
        elif name == "prompt":
            self._prefix = found
        return found

    def fork(self, sequence: Sequence) -> Sequence:
        """A copy of a reading that goes on under this recipe."""
        return sequence.fork(self.plan if self.shares else None)
