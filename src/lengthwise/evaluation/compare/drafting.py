"""The drafting suite: what guessing ahead gains on each kind of work, beside two baselines.

A prompt is read once; every run decodes from a fork of that reading. Recipes take turns on each
prompt (A, B, C, A, B, C, ...), so that a machine that gets busy slows all of them.

Only decoding is timed. Ours is timed from the first token to the last. That of transformers is
timed from the end of its first round to the end of its last. Tokens of the first round are not
counted: that round reads the prompt, and with prompt lookup it may bring several tokens.

Drafters that learn go through the prompts in order, each recipe and each round with tables of its
own: otherwise one recipe would be taught the very text that the next is about to write. What was
learned of the machine, how long steps take, is shared as it would be between requests.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, field, replace
from typing import Any

from lengthwise import recipes as recipe_module
from lengthwise.api.model import Model
from lengthwise.documents.prompt_files import Conversation
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.evaluation.compare.drafting_suite import Suite, kinds_suite, own_suite
from lengthwise.evaluation.compare.plain import without_drafters
from lengthwise.evaluation.compare.stock import stock_run
from lengthwise.evaluation.metrics.divergence import first_difference, top_gap
from lengthwise.evaluation.metrics.drafting_rows import (
    Divergence,
    DraftingRow,
    DraftingRows,
    Result,
    Run,
    median_run,
    summary,
    totals,
)
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.reading import REMEMBER, EvaluationProgress, reads_as_full
from lengthwise.evaluation.tasks import work
from lengthwise.evaluation.tasks.work import WorkPrompt
from lengthwise.models.adapted_model import AdaptedModel

DEFAULT_RECIPES = ("lookup", "recycling", "lookup + recycling")
GREEDY = "transformers"
PROMPT_LOOKUP = "transformers lookup"
BASELINES: dict[str, dict[str, Any]] = {GREEDY: {}, PROMPT_LOOKUP: {"prompt_lookup_num_tokens": 10}}
# New tokens of the run that wakes a recipe up before any is timed.
WAKE = 16

Finished = Callable[[DraftingRow], None]
Pairs = Seq[tuple[WorkPrompt, list[int]]]


def bench(
    model: Model,
    recipes: Seq[str] = DEFAULT_RECIPES,
    kinds: Seq[str] = (),
    contexts: Seq[str] = tuple(work.CONTEXTS),
    *,
    asked: Seq[Conversation] = (),
    prompts: int | None = None,
    new_tokens: int = 128,
    rounds: int = 3,
    batch: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    warm: bool = False,
    baselines: bool = True,
    progress: EvaluationProgress | None = None,
    finished: Finished | None = None,
) -> DraftingRows:
    """Measures drafting: a row for every context, kind and recipe, then for groups of kinds.

    The groups are the six kinds together and the grounded ones. `full`, transformers' greedy
    decoding and its prompt lookup run beside the recipes, as does every recipe without its
    drafters. KeyboardInterrupt ends the suite and returns the finished rows.

    Args:
        model: of `lengthwise.load` or `lengthwise.wrap`.
        recipes: as text.
        kinds: of `tasks.work.KINDS`, or of `asked`; none means all.
        contexts: lengths of the prompts, of `tasks.work.CONTEXTS`.
        asked: prompts of one's own in place of the seven kinds, of `documents.prompt_files`.
        prompts: how many of each kind. None: 1, or all of one's own.
        new_tokens: most tokens of an answer.
        rounds: how often each prompt is run.
        batch: prompts decoded at once.
        temperature: above 0 samples, in place of the likeliest token.
        seed: of the samples.
        warm: tables of learning drafters begin with what the whole suite, run once before, taught
            them.
        baselines: also run those of transformers.
        progress: told what is going on.
        finished: called with each row.

    Returns:
        The rows. A recipe that is refused is a row with the reason.

    Raises:
        RecipeError: for a recipe that does not parse.
        LengthwiseError: for anything else that cannot be asked for.
    """
    _check(contexts, new_tokens=new_tokens, rounds=rounds, batch=batch,
           prompts=1 if prompts is None else prompts)  # fmt: skip
    sampling = Sampling(temperature=temperature, seed=seed)
    entries = _entries(model, recipes, rounds, baselines, batch)
    suite = (
        own_suite(model, asked, kinds, prompts, new_tokens, sampling) if asked
        else kinds_suite(model, work.check_kinds(kinds), contexts, prompts or 1, new_tokens)
    )  # fmt: skip
    _check_lengths(entries, [len(ids) for pairs in suite.values() for _, ids in pairs])
    progress = progress or EvaluationProgress()
    base = DraftingRow(
        kind="", context="", context_tokens=0, recipe="", plain="", model=model.name,
        dtype=model.adapted.dtype_text, device=str(model.adapted.device),
        prompts=prompts or 1, rounds=rounds, new_tokens=new_tokens, batch=batch,
        temperature=temperature, tables="warm" if warm else "cold",
    )  # fmt: skip

    def measure() -> Iterator[DraftingRow]:
        _wake(model, suite, entries, sampling)
        if warm:
            _warm(model, suite, entries, base, sampling, progress)
        yield from _measure(model, suite, entries, base, sampling, progress)

    return _collected(measure(), finished)


def _collected(measured: Iterator[DraftingRow], finished: Finished | None) -> DraftingRows:
    """All rows, or those that were finished when the suite was interrupted."""
    rows: list[DraftingRow] = []
    interrupted = False
    try:
        for row in measured:
            rows.append(row)
            if finished is not None:
                finished(row)
    except KeyboardInterrupt:
        if not rows:
            raise
        interrupted = True
    return DraftingRows(tuple(rows), Origin.here(), interrupted)


def _check(contexts: Seq[str], **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise LengthwiseError(f"{name}={value}: give at least 1")
    unknown = next((context for context in contexts if context not in work.CONTEXTS), None)
    if unknown is not None or not contexts:
        raise LengthwiseError(f"context {unknown!r}: give some of {', '.join(work.CONTEXTS)}")


@dataclass
class _Entry:
    """One recipe or baseline. plain: the recipe it is compared with. plans: one a round."""

    name: str
    plain: str
    plans: list[Plan] = field(default_factory=list)
    refused: str | None = None

    @property
    def runs(self) -> bool:
        return self.refused is None

    def row(self, base: DraftingRow) -> DraftingRow:
        lossless = self.plans[0].lossless if self.plans else None
        return replace(base, recipe=self.name, plain=self.plain, lossless=lossless,
                       refused=self.refused)  # fmt: skip


def _entries(
    model: Model, recipes: Seq[str], rounds: int, baselines: bool, batch: int
) -> list[_Entry]:
    parsed = [recipe_module.parse(text) for text in ("full", *recipes)]
    found = {FULL.text: _entry(model, parsed[0], rounds)}
    if baselines:
        found |= {name: _Entry(name, FULL.text) for name in BASELINES}
        if batch > 1:
            found[PROMPT_LOOKUP].refused = "it serves one prompt at a time; give --batch 1"
    for recipe in parsed[1:]:
        for each in (without_drafters(recipe), recipe):
            if str(each) not in found:
                found[str(each)] = _entry(model, each, rounds)
    return list(found.values())


def _entry(model: Model, recipe: recipe_module.Recipe, rounds: int) -> _Entry:
    entry = _Entry(str(recipe), str(without_drafters(recipe)))
    try:
        entry.plans = [recipe_module.plan_of(recipe, _own(model)) for _ in range(rounds)]
    except Refused as refusal:
        entry.refused = str(refusal)
    return entry


def _check_lengths(entries: Seq[_Entry], lengths: Seq[int]) -> None:
    """Refuses what cannot serve one of these prompts, before any is read."""
    for entry in entries:
        try:
            for plan, length in itertools.product(entry.plans[:1], lengths):
                plan.check_prompt(length)
        except Refused as refusal:
            entry.refused = str(refusal)


def _own(model: Model) -> AdaptedModel:
    """The same adapted model under another identity: tables belong to an identity."""
    return copy.copy(model.adapted)


def _cases(model: Model, pairs: Pairs, base: DraftingRow, sampling: Sampling) -> list[_Case]:
    """The prompts, so many at a time as are decoded at once."""
    return [
        _Case(model, pairs[start : start + base.batch], base.new_tokens, sampling)
        for start in range(0, len(pairs), base.batch)
    ]


def _wake(model: Model, suite: Suite, entries: Seq[_Entry], sampling: Sampling) -> None:
    """A short run of everything: the first forwards of a process are slow."""
    case = _Case(model, next(iter(suite.values()))[:1], WAKE, sampling)
    for entry in entries:
        if entry.runs:
            plan = recipe_module.plan_of(entry.name, _own(model)) if entry.plans else None
            case.run(entry, plan)


def _warm(
    model: Model, suite: Suite, entries: Seq[_Entry], base: DraftingRow, sampling: Sampling,
    progress: EvaluationProgress,
) -> None:  # fmt: skip
    """Takes every recipe that drafts through the suite once; its tables then serve all rounds."""
    learning = [entry for entry in entries if entry.plans and entry.plans[0].drafters]
    for entry in learning:
        entry.plans = entry.plans[:1] * len(entry.plans)
    for (context, kind), pairs in suite.items():
        for case in _cases(model, pairs, base, sampling):
            for entry in learning:
                progress.stage(f"{entry.name}: warming up, {context} {kind}", 1, "runs")
                case.run(entry, entry.plans[0])
                progress.advance(1)


def _measure(
    model: Model, suite: Suite, entries: Seq[_Entry], base: DraftingRow, sampling: Sampling,
    progress: EvaluationProgress,
) -> Iterator[DraftingRow]:  # fmt: skip
    by_entry: dict[str, list[Result]] = {entry.name: [] for entry in entries if entry.runs}
    contexts = list(dict.fromkeys(context for context, _ in suite))
    for (context, kind), pairs in suite.items():
        here: dict[str, list[Result]] = {name: [] for name in by_entry}
        for case in _cases(model, pairs, base, sampling):
            runs = case.rounds(entries, base.rounds, progress, f"{context} {kind}")
            for name, result in case.results(runs, entries, context).items():
                here[name].append(result)
        for entry in entries:
            row = replace(entry.row(base), kind=kind, context=context)
            if entry.runs:
                by_entry[entry.name] += here[entry.name]
                row = summary(row, here[entry.name])
            yield row
    ran = [entry for entry in entries if entry.runs]
    groups = [list(totals(entry.row(base), by_entry[entry.name], contexts)) for entry in ran]
    for rows in zip(*groups, strict=True):
        yield from rows


class _Case:
    """Prompts decoded at once, each read once for each way of reading it, decoded from forks."""

    def __init__(self, model: Model, pairs: Pairs, new: int, sampling: Sampling) -> None:
        self.model, self.new, self.sampling = model, new, sampling
        # Whether readings keep the prompt's hidden states: from when a drafter wants them.
        self.noted = False
        self.works = [each for each, _ in pairs]
        self.prompts = [ids for _, ids in pairs]
        self._readings: dict[tuple[str, int], Sequence] = {}

    def rounds(
        self, entries: Seq[_Entry], rounds: int, progress: EvaluationProgress, stage: str
    ) -> dict[str, list[Run]]:
        """All runs of all entries, which take turns."""
        found: dict[str, list[Run]] = {entry.name: [] for entry in entries if entry.runs}
        for number in range(rounds):
            for entry in entries:
                if entry.runs:
                    progress.stage(f"{entry.name}: {stage}, round {number + 1}", 1, "runs")
                    plan = entry.plans[number] if entry.plans else None
                    found[entry.name].append(self.run(entry, plan))
                    progress.advance(1)
        return found

    def results(
        self, runs: dict[str, list[Run]], entries: Seq[_Entry], context: str
    ) -> dict[str, Result]:
        """The median run of each entry, and where any of its rounds left the plain text."""
        plans = {entry.name: entry.plans[0] for entry in entries if entry.plans}
        found = {}
        for entry in entries:
            if entry.runs:
                plain, mine = median_run(runs[entry.plain]), runs[entry.name]
                comparable = not any(run.drawn for run in mine)
                left = self._divergences(plans[entry.plain], plain, mine) if comparable else ()
                found[entry.name] = Result(
                    self.works[0].kind, context, tuple(map(len, self.prompts)), median_run(mine),
                    plain, left, comparable,
                )  # fmt: skip
        return found

    def run(self, entry: _Entry, plan: Plan | None) -> Run:
        """One recipe (or, without a plan, one baseline) on these prompts."""
        if plan is None:
            options = BASELINES[entry.name]
            return stock_run(self.model, self.prompts, self.new, self.sampling, **options)
        requests = []
        for row in range(len(self.prompts)):
            requests.append(self._begin(entry.plain, plan, row))
        lengths = []
        while active := [request for request in requests if not request.done]:
            before = [request.metrics.decoded for request in active]
            loop.step(active)
            lengths += [r.metrics.decoded - b for r, b in zip(active, before, strict=True)]
        drawn = any(drafter.drawing for request in requests for drafter in request.drafters)
        costs = [loop.finish(request) for request in requests]
        accepted: Counter[str] = Counter()
        for metrics in costs:
            accepted.update(metrics.accepted)
        # Rows share their steps, so the row that took longest was there for all of them.
        return Run(
            sum(metrics.decoded for metrics in costs), max(metrics.decode_s for metrics in costs),
            tuple(tuple(request.output) for request in requests), tuple(lengths),
            max(metrics.draft_s for metrics in costs), max(metrics.verify_s for metrics in costs),
            dict(accepted), tuple(note for metrics in costs for note in metrics.notes),
            drawn and self.sampling.temperature > 0,
        )  # fmt: skip

    def _begin(self, plain: str, plan: Plan, row: int) -> Request:
        """A request that goes on from a reading, its first token chosen."""
        while True:
            sequence = self._fork(plain, plan, row)
            request = loop.begin(sequence, self.sampling, self.new, self.model.stop_ids())
            if self.noted or not request.wants_states:
                break
            self.noted = True
            self._readings.clear()
        assert sequence.last_logits is not None
        loop.start(request, sequence.last_logits)
        return request

    def _fork(self, plain: str, plan: Plan, row: int) -> Sequence:
        """A sequence that has read a prompt and goes on under `plan`."""
        shares, ids = reads_as_full(plan), self.prompts[row]
        name = FULL.text if shares else plain
        if (name, row) not in self._readings:
            reading = FULL if shares else self.model.plan(plain)
            sequence = Sequence(self.model.adapted, reading, expected=len(ids) + self.new,
                                remember=REMEMBER)  # fmt: skip
            sequence.noted = [] if self.noted else None
            loop.prefill(sequence, ids)
            self._readings[name, row] = sequence
        if shares:
            return self._readings[name, row].fork(plan)
        # What read the prompt decodes on, with the state it has by now: only drafters are new.
        sequence = self._readings[name, row].fork()
        sequence.plan = plan
        return sequence

    def _divergences(self, plan: Plan, plain: Run, runs: Seq[Run]) -> tuple[Divergence, ...]:
        """Row by row the first place where any run is not `plain`, and how close a call it was."""
        found = []
        for row, (each, output) in enumerate(zip(self.works, plain.outputs, strict=True)):
            others = [run.outputs[row] for run in runs]
            places = [p for other in others if (p := first_difference(output, other)) is not None]
            if places:
                sequence = self._fork(plan.text, plan, row)
                gap = top_gap(sequence, output[: min(places)], self.sampling)
                found.append(Divergence(f"{each.kind}/{each.name}", min(places), gap))
        return tuple(found)
