"""Typical: guesses are accepted that the model finds not too unlikely. Lossy.

Cai et al., "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads", ICML
2024, arXiv:2401.10774.

A sample need not follow the model's distribution to be a good text. It is enough that no token is
one the model would hardly ever say. Where the model is unsure, more tokens are accepted.

    x is accepted below its parent  iff  p(x) > min(epsilon, delta * exp(-H(p)))
    H(p) = -sum p log p, in nats, of the model's distribution p at the parent

Of the paths all of whose tokens are accepted the longest is taken, the likeliest of several; a path
ends where the text does. The model's own choice follows. p is the distribution after temperature,
top-k, top-p and penalties. At temperature 0 it is one-hot and H is 0. The rule then accepts what
the model would say and nothing else, so nothing is lost. Elsewhere what is said depends on who
guesses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.sampler import Sampler
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless
from lengthwise.errors import ConstraintError
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.papers import MEDUSA
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Typical(Method):
    name: ClassVar[str] = "typical"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = MEDUSA
    lossless: ClassVar[bool] = False
    epsilon: float = option(0.09, "probability above which any guess is accepted", low=0, high=1)
    delta: float = option(0.3, "share of exp(-entropy) that is enough where it is less", low=0)

    @classmethod
    def identity(cls, length: int) -> Typical:
        """No probability is above 1: only what the model itself would say is said."""
        return cls(epsilon=1.0, delta=1e9)

    def start_verifier(self, model: AdaptedModel) -> TypicalVerifier:
        return TypicalVerifier(self)


class TypicalVerifier:
    """Takes the longest path of typical tokens."""

    def __init__(self, options: Typical) -> None:
        self.options = options

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        """See `engine.speculative.verification.Verifier`."""
        if sampler.sampling.temperature == 0:
            return Lossless().walk(tree, logits, sampler, context)
        length = len(context)
        try:
            return self._longest(tree, logits, sampler, context)
        finally:
            del context[length:]

    def _longest(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        """The longest path, and the token behind it. The context grows on the way."""
        length = len(context)
        best, likelihood, reached = 0, 0.0, [(0, 0.0)]
        for node, so_far in reached:
            if (tree.depths[node], so_far) > (tree.depths[best], likelihood):
                best, likelihood = node, so_far
            if not tree.children[node]:
                continue
            context[length:] = _tokens(tree, node)
            try:
                if node and sampler.over(context):
                    continue
                probs = sampler.probs(logits[node], context)
            except ConstraintError:
                # Nothing may follow, which is met where this is said.
                if node:
                    continue
                raise
            enough = self.threshold(probs)
            for token, child in tree.children[node].items():
                prob = float(probs[token])
                if prob > enough:
                    reached.append((child, so_far + math.log(prob)))
        path, context[length:] = tree.path(best), _tokens(tree, best)
        try:
            return path, sampler.choose(logits[best], context)
        except Exception:
            # As in `engine.speculative.verification.match`.
            if not best:
                raise
            return path[:-1], tree.tokens[best]

    def threshold(self, probs: Tensor) -> float:
        """The probability that a token of a distribution `[vocab]` must exceed."""
        entropy = float(-(probs * probs.clamp_min(1e-300).log()).sum())
        return min(self.options.epsilon, self.options.delta * math.exp(-entropy))


def _tokens(tree: Tree, node: int) -> list[int]:
    return [tree.tokens[each] for each in tree.path(node)[1:]]


__all__ = ["Typical", "TypicalVerifier"]
