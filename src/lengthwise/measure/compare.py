"""The main job: many recipes on one text and the same questions, each with what it gave and cost.

For every length each recipe (1) reads the prompt, timed, and answers every question from a fork of
what it read; (2) reads a copy of the document with probes planted in it, from which every probe
forks; (3) reads a length at which full attention is valid and is compared with it there. Recipes
that read exactly as full attention does (they only act when the prompt has ended) share one reading
unless told otherwise; such rows say so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence as Seq
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from lengthwise import recipes as recipe_module
from lengthwise.api import Model
from lengthwise.engine import loop
from lengthwise.engine.losses import Losses
from lengthwise.engine.placement import ORDINARY
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.errors import DocumentError, LengthwiseError, NotFinite, Refused
from lengthwise.measure.origin import Origin
from lengthwise.measure.prompts import Prompt, build_prompt
from lengthwise.measure.rows import Row, Rows
from lengthwise.tasks.documents import Document, read_document
from lengthwise.tasks.probes import ProbeSet, continuation, position_bins, probe_context
from lengthwise.text import TextStream

# Fidelity is measured at this many tokens (or the whole text, where that is shorter): far enough to
# need a cache, short enough that full attention is valid for every model of today.
FIDELITY_LENGTH = 4096
FIDELITY_TOKENS = 64
# One token in this many gives the loss by position: the output layer is not cheap.
LOSS_EVERY = 8
# Last queries that a shared reading remembers for whichever recipe wants them.
REMEMBER = 64
DEFAULT_QUESTION = "What is this text about? Answer in one sentence."


class Watcher:
    """Told what is going on; the CLI draws progress bars with it. Does nothing by itself."""

    def stage(self, recipe: str, stage: str, tokens: int) -> None:
        """A stage begins that will read or write this many tokens."""

    def advance(self, tokens: int) -> None:
        """So many tokens of the stage are done."""

    def row(self, row: Row) -> None:
        """A row is finished."""

    def note(self, text: str) -> None:
        """Something that holds for all rows of a length."""


@dataclass
class _Case:
    """One length: the texts, and what full attention made of them (filled by the first recipe)."""

    length: int
    prompt: Prompt
    probes: ProbeSet | None
    fidelity: tuple[tuple[int, ...], tuple[int, ...]] | None
    notes: tuple[str, ...] = ()
    truth: Tensor | None = None
    shared: dict[str, Any] = field(default_factory=dict)


def compare(
    model: Model,
    document: str | Document | None = None,
    questions: Seq[str] = (),
    recipes: Seq[str] = ("full",),
    lengths: Seq[int] = (),
    *,
    max_new_tokens: int = 64,
    probes: bool | None = None,
    share: bool = True,
    chunk: int = loop.CHUNK,
    watcher: Watcher | None = None,
) -> Rows:
    """Rows for every length, recipe and question; `full` always runs first.

    document: text to read, a path given through `read_document`, or None for the Python reference.
    lengths: tokens of document that are used, cut from its start; none means the whole document.
    probes: also measure copy, needles, loss by position and fidelity; None does where the text is
    long enough for what is planted, and else says so in the notes. share: one reading for all
    recipes that read alike. Raises RecipeError for a recipe that does not parse; one that is
    refused becomes a row with the reason. KeyboardInterrupt ends the run and returns the finished
    rows.
    """
    text = _document(document)
    parsed = [recipe_module.parse(r) for r in ("full", *recipes)]
    unique = list(dict.fromkeys(str(r) for r in parsed))
    # A document cannot end the prompt it stands in.
    ids = model.encode(text.text, special="text")
    cases = _lengths(ids, lengths)
    rows: list[Row] = []
    watcher = watcher or Watcher()
    wanted = list(questions) or [DEFAULT_QUESTION]
    try:
        for length in cases:
            case = _case(model, ids[:length], wanted, probes)
            for note in case.notes:
                watcher.note(note)
            if not rows:
                _check_recipes(model, unique)
            for recipe in unique:
                for row in _measure(model, case, recipe, max_new_tokens, share, chunk, watcher):
                    rows.append(row)
                    watcher.row(row)
        interrupted = False
    except KeyboardInterrupt:
        if not rows:
            raise
        interrupted = True
    return Rows(rows, text.name, model.trained_length, Origin.here(), interrupted)


def _check_recipes(model: Model, recipes: Seq[str]) -> None:
    """Raises for a recipe that is wrong, by a missing file say, before any is measured; one that
    is refused becomes a row later."""
    for recipe in recipes:
        with suppress(Refused):
            model.plan(recipe)


def _document(document: str | Document | None) -> Document:
    if isinstance(document, Document):
        return document
    return read_document() if document is None else Document.from_text(document)


def _lengths(ids: Seq[int], lengths: Seq[int]) -> list[int]:
    for length in lengths:
        if length > len(ids):
            raise DocumentError(
                f"length {length:,} is more than the {len(ids):,} tokens of the document; give a "
                "smaller --length or a longer document"
            )
        if length < 1:
            raise DocumentError(f"length {length}: give at least 1 token")
    return list(dict.fromkeys(lengths)) or [len(ids)]


def _case(model: Model, ids: Seq[int], questions: Seq[str], probes: bool | None) -> _Case:
    prompt = build_prompt(model, ids, questions)
    if probes is False:
        return _Case(len(ids), prompt, None, None)
    tokenizer = model.tokenizer
    valid = min(len(ids), model.trained_length, FIDELITY_LENGTH)
    count = min(FIDELITY_TOKENS, valid // 2)
    # Of one token nothing can be read before it is predicted.
    follow = continuation(ids, valid, count) if count else None
    try:
        planted = probe_context(ids, tokenizer, len(ids))  # type: ignore[arg-type]
    except LengthwiseError as error:
        if probes:
            raise type(error)(f"{error}; or leave the probes out (--no-probes)") from error
        return _Case(len(ids), prompt, None, follow, (f"probes are left out: {error}",))
    return _Case(len(ids), prompt, planted, follow)


def _measure(
    model: Model, case: _Case, recipe: str, new: int, share: bool, chunk: int, watcher: Watcher
) -> Iterator[Row]:
    base = Row(
        recipe=recipe, model=model.name, dtype=str(model.adapted.dtype).removeprefix("torch."),
        device=str(model.adapted.device), length=case.length,
    )  # fmt: skip
    questions = case.prompt.questions
    try:
        plan = model.plan(recipe)
        plan.check_prompt(len(case.prompt.prefix) + max(map(len, case.prompt.suffixes)))
        measurer = _Measurer(model, case, plan, share and reads_as_full(plan), chunk, watcher)
        quality = measurer.quality()
        for question, suffix in zip(questions, case.prompt.suffixes, strict=True):
            yield replace(base, question=question, **quality, **measurer.answer(suffix, new))
    except (Refused, NotFinite) as refusal:
        for question in questions:
            yield replace(base, question=question, refused=str(refusal))


def reads_as_full(plan: Plan) -> bool:
    """Whether a plan reads a prompt exactly as full attention does and acts only at its end."""
    if plan.rule is not None or plan.placement != ORDINARY or plan.selector is not None:
        return False
    retention = plan.retention() if plan.retention is not None else None
    return retention is None or not (retention.wants_stat or retention.wants_surprise)


class _Measurer:
    """One recipe at one length."""

    def __init__(
        self, model: Model, case: _Case, plan: Plan, shares: bool, chunk: int, watcher: Watcher
    ) -> None:
        self.model, self.case, self.plan = model, case, plan
        self.shares, self.chunk, self.watcher = shares, chunk, watcher
        self._prefix: tuple[Sequence, float] | None = None

    def answer(self, suffix: Seq[int], new: int) -> dict[str, Any]:
        """Reads (once) and answers one question; costs are those of this question alone."""
        prefix, read_s = self._read("prompt", self.case.prompt.prefix, new + len(suffix))
        sequence = self._fork(prefix)
        request = loop.begin(sequence, Sampling(), new, self.model.stop_ids())
        self.watcher.stage(self.plan.text, "answering", new)
        begin = time.perf_counter()
        logits = loop.prefill(sequence, suffix, self.chunk)
        first = loop.start(request, logits)
        loop.synchronize(self.model.adapted.device)
        request.ledger.ttft_s = read_s + time.perf_counter() - begin
        text = TextStream(self.model.tokenizer)
        text.add(first, request.ledger)
        for tokens in loop.run(request):
            text.add(tokens, request.ledger)
            self.watcher.advance(len(tokens))
        ledger = loop.finish(request)
        notes = [*self.case.notes, *filter(None, [ledger.drafting()])]
        rounded = self.model.adapted.dtype != torch.float32
        if self.plan.drafters and self.plan.lossless and rounded:
            notes.append(
                "lossless up to rounding: in 16 bits a forward of several tokens rounds otherwise "
                "than one of a single token, and near ties may fall the other way"
            )
        if self.shares and self.plan.text != FULL.text:
            notes.append("reads as full does and shared its reading, whose seconds ttft_s contains")
        return {
            "answer": text.finish().strip(),
            "ttft_s": ledger.ttft_s,
            "tokens_per_s": ledger.tokens_per_s or None,
            "kv_bytes": ledger.kv_bytes,
            "kv_peak_bytes": ledger.kv_peak_bytes,
            "accepted_per_step": ledger.accepted_per_step,
            "accepted": dict(ledger.accepted) if self.plan.drafters else None,
            "draft_s": ledger.draft_s if self.plan.drafters else None,
            "verify_s": ledger.verify_s if self.plan.drafters else None,
            "lossless": self.plan.lossless,
            "notes": tuple(notes + ledger.notes),
        }

    def quality(self) -> dict[str, Any]:
        """Probes, loss by position and fidelity, on forks of readings that are not timed."""
        found = {} if self.case.probes is None else self._probe(self.case.probes)
        if self.case.fidelity is not None:
            found |= self._fidelity(*self.case.fidelity)
        return found

    def _probe(self, probes: ProbeSet) -> dict[str, Any]:
        room = max(len(p.suffix) + len(p.target) for p in probes.probes)
        losses = Losses(LOSS_EVERY)
        context, _ = self._read("probes", probes.context, room, losses)
        by_name: dict[str, float] = {}
        depths: list[tuple[float, float]] = []
        self.watcher.stage(self.plan.text, "probing", len(probes.probes))
        for probe in probes.probes:
            sequence = self._fork(context)
            loop.prefill(sequence, probe.suffix, self.chunk)
            sequence.end_prefill()
            logits = loop.teacher_force(sequence, probe.target).float()
            targets = torch.tensor(probe.target, device=logits.device)
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            by_name[probe.name] = float(loss[probe.skip :].mean())
            if probe.name.startswith("needle"):
                depths.append((probe.depth, by_name[probe.name]))
            self.watcher.advance(1)
        curve = self._curve(losses, len(probes.context))
        return {
            "copy_loss": by_name["copy"],
            "needle_loss": fmean(loss for _, loss in depths),
            "needle_by_depth": tuple(depths),
            "loss_by_position": curve,
        }

    def _curve(self, losses: Losses, length: int) -> tuple[tuple[float, float], ...]:
        if self.shares and not losses.values:
            losses = self.case.shared["losses"]
        elif self.shares:
            self.case.shared["losses"] = losses
        points = []
        for start, stop in position_bins(length):
            inside = [v for p, v in zip(losses.positions, losses.values, strict=True)
                      if start <= p < stop]  # fmt: skip
            if inside:
                points.append(((start + stop) // 2, fmean(inside)))
        return tuple(points)

    def _fidelity(self, context: Seq[int], rest: Seq[int]) -> dict[str, Any]:
        """Top-1 agreement and KL(full || recipe) over a teacher-forced continuation."""
        read, _ = self._read("fidelity", context, len(rest))
        sequence = self._fork(read)
        sequence.end_prefill()
        logits = torch.log_softmax(loop.teacher_force(sequence, rest).float(), -1)
        if self.case.truth is None:
            self.case.truth = logits
        truth = self.case.truth
        agreement = (logits.argmax(-1) == truth.argmax(-1)).float().mean()
        kl = (truth.exp() * (truth - logits)).sum(-1).mean()
        return {"agreement": float(agreement), "kl": max(0.0, float(kl))}

    def _read(
        self, name: str, tokens: Seq[int], room: int, losses: Losses | None = None
    ) -> tuple[Sequence, float]:
        """A sequence that has read tokens, and the seconds it took (measured once if shared)."""
        if self.shares and name in self.case.shared:
            sequence, seconds = self.case.shared[name]
            return sequence, seconds
        if name == "prompt" and self._prefix is not None:
            return self._prefix
        self.watcher.stage(self.plan.text, f"reading ({name})", len(tokens))
        plan = FULL if self.shares else self.plan
        sequence = Sequence(self.model.adapted, plan, expected=len(tokens) + room,
                            remember=REMEMBER if self.shares else 0)  # fmt: skip
        begin = time.perf_counter()
        loop.prefill(sequence, tokens, self.chunk, self.watcher.advance, losses)
        loop.synchronize(self.model.adapted.device)
        found = sequence, time.perf_counter() - begin
        if self.shares:
            self.case.shared[name] = found
        elif name == "prompt":
            self._prefix = found
        return found

    def _fork(self, sequence: Sequence) -> Sequence:
        return sequence.fork(self.plan if self.shares else None)
