"""Checks of drafters: each is watched while the engine runs it over repetitive text.

The observer stands between the engine and a drafter. It hands on copies, notes what is done to
them, and lets through only what the engine can take, so that one fault is one failure.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field
from functools import lru_cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lengthwise.engine.guard import Maker
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Draws, Tree
from lengthwise.methods.base import Method
from lengthwise.methods.options import options
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.drive import run_request
from lengthwise.testing.laws import fail

NEW, SEEDS = 28, 4
# Standard deviations at which what was drawn is taken not to follow what was declared.
SURE = 6.0


@dataclass
class Watched:
    """What was seen of a drafter. faults: the first of each kind, in words. guesses: nodes added.

    output, plain: the text with it and without. drawing: it drew. own, met: of the first token
    drawn in each step, (deviation, variance) summed, of its own probability and of meeting the
    target's choice.
    """

    faults: dict[str, str] = field(default_factory=dict)
    guesses: int = 0
    drawing: bool = False
    own: tuple[float, float] = (0.0, 0.0)
    met: tuple[float, float] = (0.0, 0.0)
    output: list[int] = field(default_factory=list)
    plain: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fault(self, kind: str, what: str) -> None:
        self.faults.setdefault(kind, what)


class ObservedDrafter(Drafter):
    """Runs another drafter for the engine and notes what it does."""

    def __init__(self, inner: Drafter, vocab_size: int, seen: Watched) -> None:
        self.inner, self.vocab_size, self.seen = inner, vocab_size, seen
        self.name = inner.name
        self.runs_model, self.remember = inner.runs_model, inner.remember
        self.wants_states, self.lock = inner.wants_states, inner.lock
        self.last_state = inner.last_state
        self.failed = False

    @property
    def drawing(self) -> bool:  # type: ignore[override]
        return not self.failed and self.inner.drawing

    def _ask(self, hook: str, call: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            call()
        except Exception as error:
            self.failed = True
            self.seen.fault("notes", f"{hook} raised {type(error).__name__}: {error}")

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.sampler = Sampler(sampling)
        self._ask("begin", lambda: self.inner.begin(sequence, sampling))

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        given, work = list(tokens), tree.keep(range(len(tree)))
        before = len(work)
        others = (work.tokens[:], work.parents[:])

        def ask() -> None:
            self.inner.draft_depth = self.draft_depth
            self.inner.propose(given, work, limit)

        self._ask("propose", ask)
        if given != list(tokens):
            self.seen.fault("arguments", "propose changed the tokens it was given")
        if (work.tokens[:before], work.parents[:before]) != others:
            self.seen.fault("arguments", "propose changed the root or the guesses of others")
        self.seen.guesses += len(work) - before
        self._take(work, before, tree, limit)

    def _take(self, work: Tree, before: int, tree: Tree, limit: int) -> None:
        """Copies what can be verified, and notes what cannot."""
        names = {node: node for node in range(before)}
        for node in range(before, len(work)):
            token, source = work.tokens[node], work.sources[node]
            if work.depths[node] > limit:
                what = f"propose guessed {work.depths[node]} tokens ahead where limit is {limit}"
                self.seen.fault("depth", what)
            elif not 0 <= token < self.vocab_size:
                what = f"propose guessed token {token} of a vocabulary of {self.vocab_size}"
                self.seen.fault("tokens", what)
            elif not 0 <= work.priors[node] <= 1:
                what = f"propose gave a guess the prior {work.priors[node]}, and 0 to 1 is allowed"
                self.seen.fault("tokens", what)
            elif work.parents[node] in names:
                names[node] = tree.add(
                    names[work.parents[node]], token, source, work.buckets[node], work.priors[node]
                )
            if source and source != self.name and not source.startswith(f"{self.name} "):
                self.seen.fault("sources", f"propose signed a guess as {source!r}")
        for parent, groups in work.draws.items():
            for group in groups[len(tree.draws.get(names.get(parent, -1), ())) :]:
                self.seen.drawing = True
                if self._distribution(group, work) and all(node in names for node in group.nodes):
                    nodes = tuple(names[node] for node in group.nodes)
                    tree.draws.setdefault(names[parent], []).append(Draws(group.probs, nodes))
                    tree.drawing = True

    def _distribution(self, group: Draws, work: Tree) -> bool:
        probs = group.probs
        whole = probs.shape == (self.vocab_size,) and bool(probs.isfinite().all())
        if not whole or float(probs.min()) < 0 or abs(float(probs.sum()) - 1) > 1e-3:
            self.seen.fault(
                "draws", "propose drew from what is no distribution over the vocabulary"
            )
            return False
        return True

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        self._weigh(tokens, tree, logits, accepted)
        given, scores, taken = list(tokens), logits.clone(), list(accepted)
        nodes = (tree.tokens[:], tree.parents[:])

        def ask() -> None:
            self.inner.states = self.states
            self.inner.learn(given, tree, scores, taken)

        self._ask("learn", ask)
        same = given == list(tokens) and taken == list(accepted) and torch.equal(scores, logits)
        if not same or (tree.tokens, tree.parents) != nodes:
            self.seen.fault("arguments", "learn changed what it was given")

    def _weigh(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        """Holds the first token drawn against its probabilities and the target's own choice."""
        groups = tree.draws.get(0, ())
        if not groups or self.sampler.sampling.temperature == 0:
            return
        context = tokens[: len(tokens) - len(accepted)]
        probs = groups[0].probs.to("cpu", torch.float64)
        token = tree.tokens[groups[0].nodes[0]]
        target = self.sampler.probs(logits[0], context)
        # As a share of the likeliest one's: a flat distribution has small ones only.
        share = probs / probs.max()
        mean = float((probs * share).sum())
        (a, b), (c, d) = self.seen.own, self.seen.met
        self.seen.own = (
            a + float(share[token]) - mean, b + float((probs * share**2).sum()) - mean**2
        )  # fmt: skip
        mean = float((probs * target).sum())
        met = token == self.sampler.draw(target, len(context))
        self.seen.met = c + met - mean, d + mean * (1 - mean)

    def finish(self) -> None:
        self._ask("finish", self.inner.finish)
        self.notes = self.inner.notes


def _prompt(seed: int) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(3, 20) for _ in range(8)] * 4


def _watched(method: Method, model: AdaptedModel, sampling: Sampling, seen: Watched) -> None:
    """One request, with the drafters of a method and without, added to what was seen."""
    plan = resolve((method,), model)

    def watch(make: Callable[[], Drafter | None]) -> Drafter | None:
        drafter = make()
        return None if drafter is None else ObservedDrafter(drafter, model.vocab_size, seen)

    makers = tuple(Maker(method.name, lambda make=make: watch(make)) for make in plan.drafters)  # type: ignore[misc]
    prompt = _prompt(sampling.seed)
    request = run_request(
        model, dataclasses.replace(plan, drafters=makers), prompt, NEW, sampling, Fixed()
    )
    seen.output += request.output
    seen.notes += request.metrics.notes
    for note in request.metrics.notes:
        seen.fault("notes", f"it says: {note}")
    seen.plain += _plain(model, tuple(prompt), sampling)


@lru_cache(maxsize=64)
def _plain(model: AdaptedModel, prompt: tuple[int, ...], sampling: Sampling) -> list[int]:
    return run_request(model, Plan(), prompt, NEW, sampling, None).output


def _with_draws(cls: type[Method], how: str) -> Method | None:
    """The example of a method that draws as asked; None where it has no such choice."""
    for each in options(cls):
        if each.name == "draws" and each.choices is not None and how in each.choices:
            return dataclasses.replace(cls.example(), draws=how)  # type: ignore[call-arg]
    return None


# Every check of a drafter looks at the same runs.
_SEEN: WeakKeyDictionary[type[Method], dict[tuple[AdaptedModel, str], Watched]] = (
    WeakKeyDictionary()
)


def watched(cls: type[Method], model: AdaptedModel, mode: str) -> Watched:
    """What was seen of the drafter of a method: "greedy", "coupled" or "rejection" sampling."""
    runs = _SEEN.setdefault(cls, {})
    if (model, mode) not in runs:
        seen = Watched()
        if mode == "greedy":
            _watched(cls.example(), model, Sampling(seed=1), seen)
        elif mode == "coupled":
            coupled = _with_draws(cls, "coupled") or cls.example()
            _watched(coupled, model, Sampling(temperature=1.0, seed=2), seen)
        elif drawing := _with_draws(cls, "rejection") or _draws(cls, model):
            for seed in range(SEEDS):
                _watched(drawing, model, Sampling(temperature=1.0, seed=seed), seen)
        runs[model, mode] = seen
    return runs[model, mode]


def _draws(cls: type[Method], model: AdaptedModel) -> Method | None:
    """The example of a method that draws without being told to."""
    return cls.example() if watched(cls, model, "coupled").drawing else None


MODES = ("greedy", "coupled", "rejection")


def _check(cls: type[Method], model: AdaptedModel, kind: str) -> None:
    for mode in MODES:
        if kind in (faults := watched(cls, model, mode).faults):
            fail(cls, model, f"{mode}: {faults[kind]}")


def check_drafter_notes(cls: type[Method], model: AdaptedModel) -> None:
    """Nothing is raised, and there is nothing the user has to be told."""
    _check(cls, model, "notes")


def check_drafter_depth(cls: type[Method], model: AdaptedModel) -> None:
    """No guess is deeper than `limit`."""
    _check(cls, model, "depth")


def check_drafter_tokens(cls: type[Method], model: AdaptedModel) -> None:
    """Guesses are ids of the vocabulary, and their priors are probabilities."""
    _check(cls, model, "tokens")


def check_drafter_arguments(cls: type[Method], model: AdaptedModel) -> None:
    """What it is given stays as it is: tokens, the guesses of others, logits."""
    _check(cls, model, "arguments")


def check_drafter_sources(cls: type[Method], model: AdaptedModel) -> None:
    """Guesses are signed with its own name, or not at all."""
    _check(cls, model, "sources")


def check_drafter_guesses(cls: type[Method], model: AdaptedModel) -> None:
    """It guesses something where the text repeats itself."""
    seen = [watched(cls, model, mode) for mode in MODES]
    if not any(each.guesses or each.faults for each in seen):
        fail(cls, model, f"never guesses, in {len(seen[0].output)} tokens of text that repeats")


def check_drafter_greedy(cls: type[Method], model: AdaptedModel) -> None:
    """Law 3: greedy text is token-equal to that without it."""
    _equal(cls, model, "greedy")


def check_drafter_coupled(cls: type[Method], model: AdaptedModel) -> None:
    """Law 3: sampled text is that of its seed, where nothing was drawn."""
    _equal(cls, model, "coupled")


def _equal(cls: type[Method], model: AdaptedModel, mode: str) -> None:
    seen = watched(cls, model, mode)
    if not cls.lossless or seen.drawing or seen.output == seen.plain:
        return
    pairs = enumerate(zip(seen.output, seen.plain, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), len(seen.output))
    fail(cls, model, f"{mode}: the text differs from that without drafts at token {at}")


def check_drafter_rejection(cls: type[Method], model: AdaptedModel) -> None:
    """Law 3: what is drawn follows the distribution declared, and not the target's own noise."""
    seen = watched(cls, model, "rejection")
    if "draws" in seen.faults:
        fail(cls, model, seen.faults["draws"])
    for (deviation, variance), what in (
        (seen.own, "what is drawn does not follow the distribution it is said to be drawn from"),
        (seen.met, "what is drawn follows the noise that the target chooses with"),
    ):
        # Where hardly anything is left to chance, one rare draw is no proof: hence the addend.
        off = abs(deviation) / math.sqrt(variance + 0.25)
        if off > SURE:
            fail(cls, model, f"{what} ({off:.0f} standard deviations off)")
