"""The shelf: every method that holds or reads less, at the same shares, on one text.

For each method and share, in this order:

1. The context is read from its first token, and compressed. That is timed, and bytes are counted.
2. A copy of the cache is fed the document's continuation, token by token: loss, and KL to full.
3. Copies are asked for what was planted: the question comes after the compression, as it does in
   kvpress, or stands in the prompt (`query_aware`).
4. A copy writes greedy tokens, timed.

Which setting a method has at a share is its own to say: `Method.at_share`.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.forced import forced
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.evaluation.metrics.intervals import standard_error
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.reading import EvaluationProgress
from lengthwise.evaluation.metrics.reads import Reads, counted
from lengthwise.evaluation.metrics.shelf_rows import FULL, OURS, ShelfRow, ShelfRows
from lengthwise.evaluation.tasks.probes import Probe
from lengthwise.evaluation.tasks.shelf_text import ShelfText
from lengthwise.methods.base import Method
from lengthwise.recipes import parse, registry

# What a method of another question leaves as it is: bytes and what is read of them.
QUESTIONS = ("selection", "retention", "codecs")
SHARES = (1.0, 0.5, 0.25, 0.1)
# What is read, foretold and written: all methods of today take minutes on two cores.
LENGTH, FOLLOW, NEW = 4096, 256, 32

Finished = Callable[[ShelfRow], None]


@dataclass(frozen=True, slots=True)
class Shelved:
    """One thing to measure: a recipe, and the shares it is the setting for. asked: the method
    before it was set to a share. error: why there is no setting."""

    method: Method
    asked: str
    recipe: str
    shares: tuple[float, ...]
    error: str | None = None


def shelf(
    model: Model,
    text: ShelfText,
    methods: Seq[str] = (),
    questions: Seq[str] = QUESTIONS,
    shares: Seq[float] = SHARES,
    *,
    best_known: bool = False,
    query_aware: bool = False,
    new_tokens: int = NEW,
    chunk: int | None = None,
    known: Seq[ShelfRow] = (),
    progress: EvaluationProgress | None = None,
    finished: Finished | None = None,
) -> ShelfRows:
    """Measures methods at shares of the full cache; full attention runs first.

    KeyboardInterrupt ends it and returns the finished rows.

    Args:
        model: of `lengthwise.load` or `lengthwise.wrap`.
        text: of `shelf_text`.
        methods: names, or recipes of one method with options; none means all that are registered.
        questions: of `QUESTIONS`, where no methods are named.
        shares: of the full cache, above 0 and at most 1.
        best_known: also the best known setting of each method that names one.
        query_aware: questions stand in the prompt when it is compressed.
        new_tokens: that are written, to time them; at least 2.
        chunk: tokens of a prefill forward; None leaves it to the device.
        known: rows that were measured before; those of this setting are not measured again.
        progress: told what is going on.
        finished: called with each new row.

    Returns:
        The rows of this setting, known ones too. What is refused, or fails, is a row with the
        reason.

    Raises:
        RecipeError: for a method that is unknown, or a recipe of several.
        LengthwiseError: for a question or share that there is none of.
    """
    _check(questions, shares, new_tokens)
    asked, without = settings(model, len(text.context), methods, questions, shares, best_known)
    run = _Run(model, text, query_aware, new_tokens, chunk, progress or EvaluationProgress())
    rows: list[ShelfRow] = []
    interrupted = False
    try:
        for row, new in run.rows(asked, known):
            rows.append(row)
            if new and finished is not None:
                finished(row)
    except KeyboardInterrupt:
        if not rows:
            raise
        interrupted = True
    broken = {each.name: str(each.error) for each in registry.registered() if each.error}
    return ShelfRows(tuple(rows), without, broken, interrupted)


def settings(
    model: Model,
    length: int,
    methods: Seq[str] = (),
    questions: Seq[str] = QUESTIONS,
    shares: Seq[float] = SHARES,
    best_known: bool = False,
) -> tuple[list[Shelved], tuple[str, ...]]:
    """What is measured, each recipe once, and the names of methods without a setting for a share.

    Args:
        model: that they run on.
        length: tokens of the context.
        methods, questions, shares, best_known: as for `shelf`.
    """
    found: dict[str, Shelved] = {}
    without = []
    for method in _chosen(methods, questions, best_known):
        settled = False
        for share in sorted(set(shares), reverse=True):
            each = _at(method, share, model, length)
            if each is None:
                continue
            settled = True
            if each.recipe in found:
                each = replace(each, shares=(*found[each.recipe].shares, share))
            found[each.recipe] = each
        if not settled:
            without.append(str(method))
    return list(found.values()), tuple(without)


def check_methods(methods: Seq[str]) -> None:
    """Raises RecipeError for what names no method of the shelf, or several.

    Args:
        methods: as for `shelf`.
    """
    for text in methods:
        _named(text)


def _check(questions: Seq[str], shares: Seq[float], new_tokens: int) -> None:
    wrong = next((each for each in questions if each not in QUESTIONS), None)
    if wrong is not None or not questions:
        raise LengthwiseError(f"question {wrong!r}: give some of {', '.join(QUESTIONS)}")
    far = next((each for each in shares if not 0 < each <= 1), None)
    if far is not None or not shares:
        raise LengthwiseError(f"share {far}: give some above 0 and at most 1")
    if new_tokens < 2:
        raise LengthwiseError(f"new_tokens={new_tokens}: give at least 2, to time one step")


def _chosen(methods: Seq[str], questions: Seq[str], best_known: bool) -> Iterator[Method]:
    if not methods:
        classes = registry.methods().values()
        wanted: list[Method] = [each() for each in classes if each.question in questions]
        wanted.sort(key=lambda method: QUESTIONS.index(str(method.question)))
    else:
        wanted = [_named(text) for text in methods]
    for method in wanted:
        yield method
        known = parse(method.best_known).methods if best_known and method.best_known else ()
        # A best known recipe of several methods has no share of its own.
        yield from known if len(known) == 1 else ()


def _named(text: str) -> Method:
    found = parse(text).methods
    if len(found) != 1:
        raise RecipeError(
            f"{text!r} is a recipe of {len(found)} methods, and a share is one method's: name one"
        )
    if found[0].question not in QUESTIONS:
        raise RecipeError(
            f"{found[0].name} answers {str(found[0].question)!r}, which leaves the bytes as they "
            f"are: name a method of {', '.join(QUESTIONS)}"
        )
    return found[0]


def _at(method: Method, share: float, model: Model, length: int) -> Shelved | None:
    """A method at a share; None where it has no setting."""
    try:
        setting = method.at_share(share, model.adapted, length)
    except Exception as error:
        return Shelved(method, str(method), f"{method} at {share:.4g}", (share,), _reason(error))
    return None if setting is None else Shelved(setting, str(method), str(setting), (share,))


def _reason(error: Exception) -> str:
    """Why something did not run: a refusal in its own words, anything else with its type."""
    if isinstance(error, LengthwiseError):
        return str(error)
    return f"failed: {type(error).__name__}: {first_line(error)}"


@dataclass
class _Run:
    """One text under many plans. truth: full's log probabilities `[follow, vocab]`."""

    model: Model
    text: ShelfText
    query_aware: bool
    new_tokens: int
    chunk: int | None
    progress: EvaluationProgress
    truth: Tensor | None = None

    def rows(self, asked: Seq[Shelved], known: Seq[ShelfRow]) -> Iterator[tuple[ShelfRow, bool]]:
        """Each row, and whether it is a new one: full's, then those that are asked for."""
        base = self._base()
        mine = [row for row in known if row.setting == base.setting and row.engine == OURS]
        done = {row.recipe: row for row in mine if row.refused is None}
        full = self.measure(base, self.model.plan(FULL))
        full = replace(full, full_bytes=full.kv_bytes)
        # What full foretells is needed anyway; its figures stay those that the others stand beside.
        yield (done[FULL], False) if FULL in done else (full, True)
        for each in asked:
            if each.recipe in done:
                yield done[each.recipe], False
                continue
            question = str(each.method.question)
            row = replace(base, question=question, method=each.method.name, asked=each.asked,
                          recipe=each.recipe, share=each.shares[0],
                          full_bytes=full.kv_bytes)  # fmt: skip
            row = self._try(row, each)
            if row.spent is not None:
                # One setting may be the nearest to several shares; it stands at the nearest of all.
                spent = row.spent
                row = replace(row, share=min(each.shares, key=lambda s: abs(s - spent)))
            yield row, True

    def _base(self) -> ShelfRow:
        here = Origin.here()
        origin = {"date": datetime.date.today().isoformat(), **asdict(here)}
        return ShelfRow(
            engine=OURS, question="", method="", share=1.0, recipe=FULL, asked=FULL,
            model=self.model.name, dtype=self.model.adapted.dtype_text,
            device=str(self.model.adapted.device), document=self.text.document,
            text=self.text.digest, length=len(self.text.context),
            follow=len(self.text.continuation), query_aware=self.query_aware, origin=origin,
        )  # fmt: skip

    def _try(self, row: ShelfRow, each: Shelved) -> ShelfRow:
        """The row measured, or with the reason why not: one method harms no other."""
        if each.error is not None:
            return replace(row, refused=each.error)
        try:
            plan = self.model.plan(each.recipe)
            plan.check_prompt(len(self.text.context))
            return self.measure(row, plan)
        except Exception as error:
            return replace(row, refused=_reason(error))

    def measure(self, row: ShelfRow, plan: Plan) -> ShelfRow:
        """A row with its figures. Raises what the run raises."""
        plan, reads = counted(plan)
        read, ended, seconds = self._read(plan)
        # Before anything else: what a question or an answer adds is no part of the share.
        held, peak = ended.nbytes(), ended.peak_bytes
        row = replace(row, prefill_s=seconds, kv_bytes=held, **self._continuation(ended, reads))
        row = replace(row, read=reads.share, **self._probes(read, ended))
        sequence = ended.fork()
        request = loop.begin(sequence, Sampling(), self.new_tokens, ())
        self.progress.stage(f"{plan.text}: writing", self.new_tokens, "tokens")
        assert sequence.last_logits is not None
        loop.start(request, sequence.last_logits)
        for tokens in loop.run(request):
            self.progress.advance(len(tokens))
        metrics = loop.finish(request)
        return replace(
            row, tokens_per_s=metrics.tokens_per_s or None, new_tokens=len(request.output),
            kv_peak_bytes=max(peak, metrics.kv_peak_bytes),
            kv_offloaded_bytes=metrics.kv_offloaded_bytes, notes=tuple(metrics.notes),
        )  # fmt: skip

    def _read(self, plan: Plan) -> tuple[Sequence, Sequence, float]:
        """The context as it was read, the same compressed, and the seconds of both."""
        self.progress.stage(f"{plan.text}: reading", len(self.text.context), "tokens")
        # Room for the context alone: bytes are those allocated.
        sequence = Sequence(self.model.adapted, plan, expected=len(self.text.context))
        begin = time.perf_counter()
        loop.prefill(sequence, self.text.context, self.chunk, self.progress.advance)
        loop.synchronize(self.model.adapted.device)
        seconds = time.perf_counter() - begin
        ended = sequence.fork() if self.query_aware else sequence
        begin = time.perf_counter()
        ended.end_prefill()
        loop.synchronize(self.model.adapted.device)
        return sequence, ended, seconds + time.perf_counter() - begin

    def _continuation(self, ended: Sequence, reads: Reads) -> dict[str, Any]:
        """Loss of the document's next tokens, and how far what foretells them is from full."""
        tokens = self.text.continuation
        self.progress.stage("foretelling", len(tokens), "tokens")
        losses: list[float] = []
        divergence: list[float] = []
        kept: list[Tensor] = []
        agreed = 0
        reads.on = True
        for logits in forced(ended.fork(), tokens):
            start = len(losses)
            ours = torch.log_softmax(logits.float(), -1)
            kept.append(ours.clone())
            targets = torch.tensor(tokens[start : start + len(ours)], device=ours.device)
            losses += F.nll_loss(ours, targets, reduction="none").tolist()
            theirs = ours if self.truth is None else self.truth[start : start + len(ours)]
            agreed += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
            divergence += (theirs.exp() * (theirs - ours)).sum(-1).tolist()
            self.progress.advance(len(ours))
        reads.on = False
        first = self.truth is None
        if first:
            self.truth = torch.cat(kept)
        return {
            "loss": fmean(losses), "kl": max(0.0, fmean(divergence)),
            "kl_error": None if first else standard_error(divergence),
            "agreement": agreed / len(tokens),
        }  # fmt: skip

    def _probes(self, read: Sequence, ended: Sequence) -> dict[str, Any]:
        self.progress.stage("asking", len(self.text.probes), "probes")
        depths: list[tuple[float, float]] = []
        found: dict[str, Any] = {}
        for probe in self.text.probes:
            loss = self._asked(read if self.query_aware else ended, probe)
            if probe.name.startswith("needle"):
                depths.append((probe.depth, loss))
            else:
                found[f"{probe.name}_loss"] = loss
            self.progress.advance(1)
        mean = fmean(loss for _, loss in depths)
        return {**found, "needle_loss": mean, "needle_by_depth": tuple(depths)}

    def _asked(self, sequence: Sequence, probe: Probe) -> float:
        """Mean loss of a probe's answer, nats a token."""
        copy = sequence.fork()
        if self.query_aware:
            loop.prefill(copy, probe.suffix, self.chunk)
            copy.end_prefill()
            logits = torch.cat(list(forced(copy, probe.target)))
        else:
            asked = (*probe.suffix, *probe.target)
            logits = torch.cat(list(forced(copy, asked)))[len(probe.suffix) :]
        targets = torch.tensor(probe.target, device=logits.device)
        loss = F.cross_entropy(logits.float(), targets, reduction="none")
        return float(loss[probe.skip :].mean())
