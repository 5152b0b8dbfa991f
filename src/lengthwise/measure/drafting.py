"""The drafting suite: what guessing ahead gains on each kind of work, beside two baselines.

A prompt is read once; every run decodes from a fork of that reading. Recipes take turns on each
prompt (A, B, C, A, B, C, ...), so that a machine that gets busy slows all of them. Only decoding is
timed: ours from the first token to the last, transformers' from the end of its first round (which
reads the prompt, and with prompt lookup may bring several tokens) to the end of its last; tokens of
that first round are not counted.

Drafters that learn go through the prompts in order, each recipe and each round with tables of its
own: otherwise one recipe would be taught the very text that the next is about to write. What was
learned of the machine, how long steps take, is shared as it would be between requests.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from lengthwise import recipes as recipe_module
from lengthwise.api import Model
from lengthwise.engine import loop
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.measure.compare import REMEMBER, Watcher, reads_as_full
from lengthwise.measure.drafting_rows import (
    Divergence,
    DraftingRow,
    DraftingRows,
    Result,
    Run,
    median_run,
    summary,
    totals,
)
from lengthwise.measure.origin import Origin
from lengthwise.methods.base import Question
from lengthwise.models.adapt import Adapted
from lengthwise.tasks import work
from lengthwise.tasks.work import Messages, Work

DEFAULT_RECIPES = ("lookup", "recycling", "lookup + recycling")
GREEDY = "transformers"
PROMPT_LOOKUP = "transformers lookup"
BASELINES: dict[str, dict[str, Any]] = {GREEDY: {}, PROMPT_LOOKUP: {"prompt_lookup_num_tokens": 10}}
# New tokens of the run that wakes a recipe up before any is timed.
WAKE = 16

Finished = Callable[[DraftingRow], None]
Suite = dict[tuple[str, str], list[tuple[Work, list[int]]]]


def bench(
    model: Model,
    recipes: Seq[str] = DEFAULT_RECIPES,
    kinds: Seq[str] = (),
    contexts: Seq[str] = tuple(work.CONTEXTS),
    *,
    prompts: int = 1,
    new_tokens: int = 128,
    rounds: int = 3,
    warm: bool = False,
    baselines: bool = True,
    watcher: Watcher | None = None,
    finished: Finished | None = None,
) -> DraftingRows:
    """Rows for every context, kind of work and recipe, then for the six kinds and the grounded.

    `full`, transformers' greedy decoding and its prompt lookup run beside the recipes, as does
    every recipe without its drafters. prompts: of each kind, 1 to 3. warm: tables of learning
    drafters begin with what the whole suite, run once before, taught them. finished: called with
    each row. Raises LengthwiseError for what cannot be asked for, RecipeError for a recipe that
    does not parse; a refused one becomes a row with the reason. KeyboardInterrupt ends the suite
    and returns the finished rows.
    """
    _check(contexts, prompts=prompts, new_tokens=new_tokens, rounds=rounds)
    entries = _entries(model, recipes, rounds, baselines)
    suite = _prompts(model, work.check_kinds(kinds), contexts, prompts, new_tokens)
    _check_lengths(entries, [len(ids) for pairs in suite.values() for _, ids in pairs])
    watcher = watcher or Watcher()
    base = DraftingRow(
        kind="", context="", context_tokens=0, recipe="", plain="", model=model.name,
        dtype=str(model.adapted.dtype).removeprefix("torch."), device=str(model.adapted.device),
        prompts=prompts, rounds=rounds, new_tokens=new_tokens, tables="warm" if warm else "cold",
    )  # fmt: skip
    rows: list[DraftingRow] = []
    try:
        _wake(model, suite, entries)
        if warm:
            _warm(model, suite, entries, new_tokens, watcher)
        for row in _measure(model, suite, entries, base, watcher):
            rows.append(row)
            if finished is not None:
                finished(row)
        interrupted = False
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


def without_drafters(recipe: recipe_module.Recipe) -> recipe_module.Recipe:
    """What a recipe is without guessing: its plain loop."""
    kept = tuple(m for m in recipe.methods if m.question is not Question.DRAFTING)
    return recipe_module.Recipe(kept)


def _entries(model: Model, recipes: Seq[str], rounds: int, baselines: bool) -> list[_Entry]:
    parsed = [recipe_module.parse(text) for text in ("full", *recipes)]
    found = {FULL.text: _entry(model, parsed[0], rounds)}
    if baselines:
        found |= {name: _Entry(name, FULL.text) for name in BASELINES}
    for recipe in parsed[1:]:
        for each in (without_drafters(recipe), recipe):
            if str(each) not in found:
                found[str(each)] = _entry(model, each, rounds)
    return list(found.values())


def _entry(model: Model, recipe: recipe_module.Recipe, rounds: int) -> _Entry:
    entry = _Entry(str(recipe), str(without_drafters(recipe)))
    try:
        entry.plans = [recipe_module.resolve(recipe, _own(model)) for _ in range(rounds)]
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


def _own(model: Model) -> Adapted:
    """The same adapted model under another identity: tables belong to an identity."""
    return copy.copy(model.adapted)


def _prompts(model: Model, kinds: Seq[str], contexts: Seq[str], count: int, new: int) -> Suite:
    """Prompts with their tokens by (context, kind)."""
    found = {}
    for context in contexts:
        length = work.CONTEXTS[context]
        if length + new > model.trained_length:
            raise LengthwiseError(
                f"{context} prompts and their answers are {length + new:,} tokens long and "
                f"{model.name} was trained to read {model.trained_length:,}: give a shorter "
                "--context or fewer --new-tokens"
            )
        for kind in kinds:
            made = work.prompts(kind, length, count, lambda m: len(encode(model, m)))
            found[context, kind] = [(each, encode(model, each.messages)) for each in made]
    return found


def encode(model: Model, messages: Messages) -> list[int]:
    """Token ids of messages; of their texts one below the other where there is no chat template."""
    if getattr(model.tokenizer, "chat_template", None):
        return model.encode(messages)
    text = "\n\n".join(message["content"] for message in messages)
    return model.encode(text if messages[-1]["role"] == "assistant" else text + "\n\n")


def _wake(model: Model, suite: Suite, entries: Seq[_Entry]) -> None:
    """A short run of everything: the first forwards of a process are slow."""
    each, ids = next(iter(suite.values()))[0]
    case = _Case(model, each, ids, WAKE)
    for entry in entries:
        if entry.runs:
            plan = recipe_module.resolve(entry.name, _own(model)) if entry.plans else None
            case.run(entry, plan)


def _warm(model: Model, suite: Suite, entries: Seq[_Entry], new: int, watcher: Watcher) -> None:
    """Takes every recipe that drafts through the suite once; its tables then serve all rounds."""
    learning = [entry for entry in entries if entry.plans and entry.plans[0].drafters]
    for entry in learning:
        entry.plans = entry.plans[:1] * len(entry.plans)
    for (context, kind), pairs in suite.items():
        for each, ids in pairs:
            case = _Case(model, each, ids, new)
            for entry in learning:
                watcher.stage(entry.name, f"warming up, {context} {kind}", 1)
                case.run(entry, entry.plans[0])
                watcher.advance(1)


def _measure(
    model: Model, suite: Suite, entries: Seq[_Entry], base: DraftingRow, watcher: Watcher
) -> Iterator[DraftingRow]:
    by_entry: dict[str, list[Result]] = {entry.name: [] for entry in entries if entry.runs}
    contexts = list(dict.fromkeys(context for context, _ in suite))
    for (context, kind), pairs in suite.items():
        here: dict[str, list[Result]] = {name: [] for name in by_entry}
        for each, ids in pairs:
            case = _Case(model, each, ids, base.new_tokens)
            runs = case.rounds(entries, base.rounds, watcher, f"{context} {kind}")
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
    """One prompt: read once for each way of reading it, decoded from forks."""

    def __init__(self, model: Model, each: Work, ids: Seq[int], new: int) -> None:
        self.model, self.work, self.ids, self.new = model, each, ids, new
        self._readings: dict[str, Sequence] = {}

    def rounds(
        self, entries: Seq[_Entry], rounds: int, watcher: Watcher, stage: str
    ) -> dict[str, list[Run]]:
        """All runs of all entries, which take turns."""
        found: dict[str, list[Run]] = {entry.name: [] for entry in entries if entry.runs}
        for number in range(rounds):
            for entry in entries:
                if entry.runs:
                    watcher.stage(entry.name, f"{stage}, round {number + 1}", 1)
                    plan = entry.plans[number] if entry.plans else None
                    found[entry.name].append(self.run(entry, plan))
                    watcher.advance(1)
        return found

    def results(
        self, runs: dict[str, list[Run]], entries: Seq[_Entry], context: str
    ) -> dict[str, Result]:
        """The median run of each entry, and where any of its rounds left the plain text."""
        plans = {entry.name: entry.plans[0] for entry in entries if entry.plans}
        found = {}
        for entry in entries:
            if entry.runs:
                plain = median_run(runs[entry.plain])
                outputs = [run.output for run in runs[entry.name]]
                left = self._divergence(plans[entry.plain], plain.output, outputs)
                median = median_run(runs[entry.name])
                found[entry.name] = Result(self.work.kind, context, len(self.ids), median, plain,
                                           left)  # fmt: skip
        return found

    def run(self, entry: _Entry, plan: Plan | None) -> Run:
        """One recipe (or, without a plan, one baseline) on this prompt."""
        if plan is None:
            return stock_run(self.model, self.ids, self.new, **BASELINES[entry.name])
        sequence = self._fork(entry.plain, plan)
        assert sequence.last_logits is not None
        request = loop.begin(sequence, Sampling(), self.new, self.model.stop_ids())
        loop.start(request, sequence.last_logits)
        for _ in loop.run(request):
            pass
        ledger = loop.finish(request)
        return Run(ledger.decoded, ledger.steps, ledger.decode_s, tuple(request.output),
                   ledger.draft_s, ledger.verify_s, dict(ledger.accepted),
                   tuple(ledger.notes))  # fmt: skip

    def _fork(self, plain: str, plan: Plan) -> Sequence:
        """A sequence that has read the prompt and goes on under `plan`."""
        shares = reads_as_full(plan)
        name = FULL.text if shares else plain
        if name not in self._readings:
            reading = FULL if shares else self.model.plan(plain)
            sequence = Sequence(self.model.adapted, reading, expected=len(self.ids) + self.new,
                                remember=REMEMBER)  # fmt: skip
            loop.prefill(sequence, self.ids)
            self._readings[name] = sequence
        if shares:
            return self._readings[name].fork(plan)
        # What read the prompt decodes on, with the state it has by now: only drafters are new.
        sequence = self._readings[name].fork()
        sequence.plan = plan
        return sequence

    def _divergence(self, plan: Plan, plain: Seq[int], outputs: Seq[Seq[int]]) -> Divergence | None:
        """The first place where any of `outputs` is not `plain`, and how close a call it was."""
        places = [p for output in outputs if (p := first_difference(plain, output)) is not None]
        if not places:
            return None
        sequence = self._fork(plan.text, plan)
        gap = top_gap(sequence, plain[: min(places)])
        return Divergence(f"{self.work.kind}/{self.work.name}", min(places), gap)


def first_difference(one: Seq[int], other: Seq[int]) -> int | None:
    """The first index at which two texts differ, one of them being over included; None if equal."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return None if len(one) == len(other) else min(len(one), len(other))


def top_gap(sequence: Sequence, tokens: Seq[int]) -> float:
    """By how much the likeliest token after `tokens` leads the next one, in logits.

    sequence: has read the prompt; tokens are fed to it one by one, as plain decoding feeds them, so
    the logits are those that plain decoding saw.
    """
    sequence.end_prefill()
    # The last token only asks for the logits before it; any will do.
    logits = loop.teacher_force(sequence, [*tokens, 0])[-1].float()
    first, second = logits.topk(2).values.tolist()
    return float(first - second)


class _Marks(StoppingCriteria):
    """Never stops; notes the length and the time at the end of each round of `generate`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.lengths: list[int] = []
        self.times: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        loop.synchronize(self.device)
        self.lengths.append(input_ids.shape[1])
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def stock_run(model: Model, ids: Seq[int], new: int, **options: Any) -> Run:
    """Greedy `generate` of the stock model, timed after its first round; options go to its
    GenerationConfig."""
    adapted = model.adapted
    stop = model.stop_ids()
    marks = _Marks(adapted.device)
    given = torch.tensor([list(ids)], device=adapted.device)
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, num_beams=1, repetition_penalty=1.0, use_cache=True,
        eos_token_id=stop or None, pad_token_id=(stop or [0])[0], **options,
    )  # fmt: skip
    generate: Any = adapted.model.generate
    made = generate(given, attention_mask=torch.ones_like(given), generation_config=config,
                    stopping_criteria=StoppingCriteriaList([marks]))  # fmt: skip
    output = made[0, len(ids) :].tolist()
    if output and output[-1] in stop:
        output.pop()
    tokens = sum(after - before for before, after in pairwise(marks.lengths))
    return Run(tokens, len(marks.times) - 1, marks.times[-1] - marks.times[0], tuple(output))
