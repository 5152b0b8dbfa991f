"""SpecDec++: drafting goes on until some guess is likely to have been wrong.

Huang et al., "SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths", COLM 2025,
arXiv:2405.19715.

When to stop is a Markov decision process, whose best policy is a threshold:

    stop after guess k  iff  1 - a_1 a_2 ... a_k > threshold,   never before least or beyond most

a_i is the probability that guess i is accepted if those before it are. A head trained on the
drafting model's hidden states predicts it. Without a head, it is taken from earlier guesses of the
drafter that had a like probability. The guess on which it stopped is verified like the others,
which keeps drawn guesses lossless.

Ours has the same rule for drafters that run no model. Of what they guessed, a node is verified if
the threshold is not yet passed above it. In training the head, rejections weigh more. So it
predicts lower probabilities, and with a head the same threshold stops earlier.

Two things are different in the authors' code. Its three blocks are one module applied three times;
ours have weights of their own. And it reads the state behind guess i, once the draft model has read
that guess to make the next one. So a_i is known one guess later, the newest guess never counts, and
drafting never stops at the first. Ours reads the state that guess i is made from, and counts it
without delay.
"""

from __future__ import annotations

import os
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_depth import DrafterView
from lengthwise.engine.speculative.draft_length import LengthPolicy, UpTo
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.calibration import fingerprint
from lengthwise.methods.draft_length._shared import acceptance_head
from lengthwise.methods.draft_length._shared.acceptance_head import AcceptanceHead
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class SpecDec(Method):
    name: ClassVar[str] = "specdec"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths",
        "Huang et al.",
        2025,
        arxiv="2405.19715",
        venue="COLM",
        code="https://github.com/Kaffaljidhmah2/SpecDec_pp",
    )
    lossless: ClassVar[bool] = True
    threshold: float = option(0.3, "rejection probability at which drafting ends", low=0, high=1)
    least: int = option(2, "guesses in a row at least", low=0)
    most: int = option(20, "guesses in a row at most", low=0)
    head: str | None = option(None, "file of a trained acceptance head; none: by experience")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most < self.least:
            raise RecipeError(f"{self}: most must be at least {self.least}, as least is")

    @classmethod
    def identity(cls, length: int) -> SpecDec:
        return cls(least=0, most=0)

    def check(self, model: AdaptedModel) -> None:
        self.trained(model)

    def trained(self, model: AdaptedModel) -> AcceptanceHead | None:
        """The head, if one is named; raises Refused where it was trained for another target."""
        if self.head is None:
            return None
        head = acceptance_head.load(os.path.expanduser(self.head))
        if head.target != fingerprint(model):
            raise Refused(
                f"{self.head} was trained for another target than this {model.family!r} model",
                "train one for it, or leave the head out",
            )
        head.to(model.device)
        return head

    def start_policy(self, model: AdaptedModel) -> SpecDecPolicy:
        return SpecDecPolicy(self, self.trained(model))


class SpecDecPolicy(LengthPolicy):
    """Draws every chain until the probability of a rejection passes the threshold."""

    def __init__(self, options: SpecDec, head: AcceptanceHead | None = None) -> None:
        self.options, self.head = options, head
        self._asked: set[str] = set()

    def draft_depth(
        self, load: Load, drafter: DrafterView, tree: Tree, acceptance: Acceptance, limit: int
    ) -> SpecDecDepth | None:
        if not self.options.most:
            return None
        if drafter.runs_model:
            self._asked.add(drafter.name)
        return SpecDecDepth(self.options, drafter, acceptance, self.head)

    def choose(self, load: Load, trees: Seq[Tree], acceptances: Seq[Acceptance]) -> list[Tree]:
        return [
            self._kept(tree, acceptance)
            for tree, acceptance in zip(trees, acceptances, strict=True)
        ]

    def _kept(self, tree: Tree, acceptance: Acceptance) -> Tree:
        """All that was drawn or whose drafter was stopped, and of the rest what the rule allows."""
        probs, kept = acceptance.path_probs(tree), tree.drawn()
        kept |= tree.above(n for n, source in enumerate(tree.sources) if source in self._asked)
        for node in range(1, len(tree)):
            depth = tree.depths[node]
            sure = 1 - probs[tree.parents[node]] <= self.options.threshold
            if depth <= self.options.most and (sure or depth <= self.options.least):
                kept.add(node)
        return tree if len(kept) == len(tree) else tree.keep(sorted(kept))


class SpecDecDepth(UpTo):
    """Stops a drafter that runs a model. survival: probability that all its guesses are right."""

    def __init__(
        self,
        options: SpecDec,
        drafter: DrafterView,
        acceptance: Acceptance,
        head: AcceptanceHead | None,
    ) -> None:
        super().__init__(options.most)
        self.options, self.drafter, self.acceptance, self.head = options, drafter, acceptance, head
        self.wants_state = head is not None
        self.survival = 1.0

    def should_continue(self, bucket: int, prior: float, state: Tensor | None = None) -> bool:
        further = super().should_continue(bucket, prior, state)
        if self.head is None:
            prob = self.acceptance.average(self.drafter.name, bucket, prior)
        else:
            prob = self._read(self.head, state)
        self.survival *= prob
        sure = 1 - self.survival <= self.options.threshold
        return further and (sure or self.levels < self.options.least)

    def _read(self, head: AcceptanceHead, state: Tensor | None) -> float:
        draft = getattr(self.drafter, "draft", None)
        other = isinstance(draft, AdaptedModel) and fingerprint(draft) != head.draft
        if state is None or len(state) != head.hidden or other:
            raise LengthwiseError(
                f"the acceptance head of specdec was trained for another drafting model than that "
                f"of {self.drafter.name}; leave the head out, or train one for it"
            )
        return head.prob(state)


__all__ = ["SpecDec", "SpecDecDepth", "SpecDecPolicy"]
