"""SWIFT: the model guesses with some of its layers, and finds out which while it writes.

Xia et al., "SWIFT: On-the-Fly Self-Speculative Decoding for LLM Inference Acceleration", ICLR 2025,
arXiv:2410.06916.

Which layers a guess can do without differs from model to model and from text to text. So sets of a
fixed size are tried on what was just said, and the best one guesses:

    matchness(S) = share of the first `window` new tokens that S chooses behind the prompt
    trial: another set S;  if matchness(S) > matchness(best):  best = S

There is one trial every `interval` rounds in which it guesses. Trials end when a set reaches
`enough`, when `patience` of them in a row brought nothing, or when `trials` are done. The first and
the last layer always stay.

Ours: whole layers are left out, where the original leaves out attention and MLP apart. Every other
trial changes the best set in one place, where every 25th of the original is a Bayesian step. The
policy decides how far a chain goes, where the original stops below a confidence of 0.8. It goes by
the usual time of a level, of which a trial every round, as in the original, is a part: guesses that
pay look too dear. With `interval=3` it is not, which is better under the policy of this project.

What was found is in the request's notes. `layers(skip="...")` guesses with it from then on, which
is Draft & Verify (arXiv:2309.08168). `lengthwise calibrate layers` searches before.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.drafting._shared.layer_search import LayerSearch, matchness
from lengthwise.methods.drafting._shared.layer_skip_scorer import LayerSkipScorer
from lengthwise.methods.drafting._shared.layer_subset import layer_subset
from lengthwise.methods.drafting._shared.model_drafter import (
    ModelDrafter,
    depth_option,
    draws_option,
    width_option,
)
from lengthwise.methods.papers import SWIFT
from lengthwise.models.adapted_model import AdaptedModel

TRIES = Needs("trials=1 or more", lambda method: method.trials)


@dataclass(frozen=True)
class Swift(Method):
    """skip: share of the layers between the first and the last that guesses leave out. window: new
    tokens a set is tried on. interval, trials, patience, enough: when it is tried, and when no
    more."""

    name: ClassVar[str] = "swift"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = SWIFT
    lossless: ClassVar[bool] = True
    skip: float = option(0.45, "share of the inner layers that guesses leave out", low=0, high=1)
    window: int = option(32, "new tokens that a set of layers is tried on", low=2, needs=TRIES)
    interval: int = option(1, "rounds from one trial to the next", low=1, needs=TRIES)
    trials: int = option(1000, "trials at most", low=0)
    patience: int = option(
        300, "trials without a better set, after which none follows", low=1, needs=TRIES
    )
    enough: float = option(0.95, "matchness at which the search ends", low=0, high=1, needs=TRIES)
    seed: int = option(0, "of the sets that are tried", low=0, needs=TRIES)
    depth: int = depth_option(25)
    width: int = width_option(3)
    draws: str = draws_option()

    @classmethod
    def identity(cls, length: int) -> Swift:
        """The whole model guesses what it will say."""
        return cls(skip=0.0, trials=0)

    @classmethod
    def example(cls) -> Swift:
        return cls(window=4, depth=4)

    def check(self, model: AdaptedModel) -> None:
        self.start_drafter(model)

    def start_drafter(self, model: AdaptedModel) -> SwiftDrafter:
        return SwiftDrafter(self, model)


class SwiftDrafter(ModelDrafter):
    """Asks the best layers found so far, through the target's own cache."""

    def __init__(self, options: Swift, model: AdaptedModel) -> None:
        super().__init__("swift", options.depth, options.width, options.draws)
        self.options, self.model = options, model
        total = len(model.layers)
        self.search = LayerSearch(total, int((total - 2) * options.skip), options.seed)
        self.draft = layer_subset(model, self.search.kept)
        self._before: Sequence | None = None
        self._prompt = 0

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        super().begin(sequence, sampling)
        if self.options.trials and self.search.skipped:
            # What guesses will read: the prompt as the recipe keeps it.
            self._before = sequence.fork()
            self._before.peak_bytes = 0
            self._before.end_prefill()
        self._prompt = len(sequence)

    def held(self) -> list[Sequence]:
        return [] if self._before is None else [self._before]

    def open(self, sequence: Sequence) -> LayerSkipScorer:
        return LayerSkipScorer(sequence, self.draft, self.search.kept)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        said = len(tokens) - self._prompt
        window, due = self.options.window + 1, self._rounds % self.options.interval == 0
        if self._before is not None and due and said > window:
            self._try(self._before, tokens[self._prompt : self._prompt + window])
        super().propose(tokens, tree, limit)

    def _try(self, before: Sequence, said: Seq[int]) -> None:
        """Scores one set on what was said first, behind the prompt; the better one guesses."""
        search, options = self.search, self.options
        best = search.kept
        search.tell(matchness(self.model, before, search.propose(), said))
        if search.kept != best:
            self.draft = layer_subset(self.model, search.kept)
            assert isinstance(self.runner, LayerSkipScorer)
            self.runner.draft, self.runner.kept = self.draft, search.kept
        done = search.score >= options.enough or search.unchanged >= options.patience
        if done or search.tried >= options.trials:
            self._before = None

    def finish(self) -> None:
        if self.search.tried:
            self.notes = [
                *self.notes,
                f"swift tried {self.search.tried} sets of layers; the best says "
                f"{self.search.score:.0%} of the tokens it was tried on as all layers do: "
                f'layers(skip="{self.search.left_out}")',
            ]


__all__ = ["Swift", "SwiftDrafter"]
