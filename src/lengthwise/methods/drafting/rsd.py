"""RSD: a tree of guesses drawn without replacement, from a drafting model.

Jeon et al., "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without
Replacement", 2024, arXiv:2402.14160.

Several draws below a node are worth more if no two are equal. Recursive rejection, in the engine's
verification, accepts among them without changing the target's distribution.

RSD-C draws `branching[l]` children below every node of level l by the Gumbel-top-k trick, the most
perturbed first:

    the b tokens v of largest  log q(v) + g_v,   g_v ~ Gumbel

RSD-S keeps the `width` nodes of each level whose paths are the most perturbed (stochastic beam
search). A path of log-probability phi and perturbed value G has children v with

    phi_v = phi + log q(v)         ~g_v = phi_v + Gumbel          Z = max over v of ~g_v
    G_v   = -log(exp(-G) - exp(-Z) + exp(-~g_v))       so that the largest of them is G itself

computed as  u = G - ~g_v + log(1 - exp(~g_v - Z)),  G_v = G - max(u, 0) - log(1 + exp(-|u|)).

q is the draft's distribution after temperature, top-k, top-p and penalties. At temperature 0, and
where guesses are coupled to the target's noise, the tree is the likeliest of the same shape
instead, of plain guesses. Ours stops at any level where the length policy sees no gain in another.
What was drawn stays, which keeps it lossless. The model is chosen as for any drafter that runs one.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampler import DRAWN, streams
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.drafting._shared.model_drafter import DRAWS, ModelDrafter, Scorer, bucket_of
from lengthwise.methods.nested import methods_of
from lengthwise.models.adapted_model import AdaptedModel

# Streams of noise are numbered by round and node.
NODES_A_ROUND = 1024
MOST_NODES = 256
BEAM = Needs("kind=beam", lambda method: method.kind == "beam")
CONSTANT = Needs("kind=constant", lambda method: method.kind == "constant")


@dataclass(frozen=True)
class RSD(Method):
    """draft: the drafter whose model is asked, as a recipe writes it."""

    name: ClassVar[str] = "rsd"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without "
        "Replacement",
        "Jeon et al.",
        2024,
        arxiv="2402.14160",
    )
    lossless: ClassVar[bool] = True
    draft: str = option("layers", 'whose model is asked, such as "layers(keep=50%)"')
    kind: str = option("beam", "RSD-S or RSD-C", choices=("beam", "constant"))
    width: int = option(4, "paths of a beam", low=1, high=64, needs=BEAM)
    depth: int = option(4, "levels of a beam", low=1, high=64, needs=BEAM)
    branching: str = option("2,2,1", "children of a node by level", needs=CONSTANT)
    draws: str = option("rejection", "how guesses are made when the target samples", choices=DRAWS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "beam":
            nodes = self.width * self.depth
        else:
            nodes, level = 0, 1
            for children in self.branches():
                level *= children
                nodes += level
        if nodes > MOST_NODES:
            raise RecipeError(f"{self}: that is {nodes} guesses; allowed are {MOST_NODES}")

    def branches(self) -> tuple[int, ...]:
        """Children of the nodes of each level; all that survive, for a beam."""
        if self.kind == "beam":
            return (self.width,) * self.depth
        parts = [part.strip() for part in self.branching.split(",")]
        if not all(part.isdecimal() and int(part) for part in parts):
            raise RecipeError(
                f"rsd(branching={self.branching}): allowed are whole numbers from 1, one for each "
                'level, such as "3,2,1"'
            )
        return tuple(int(part) for part in parts)

    @classmethod
    def identity(cls, length: int) -> RSD:
        """The whole model guesses what it will say."""
        return cls(draft="layers(keep=100%)")

    def check(self, model: AdaptedModel) -> None:
        self.start_drafter(model)

    def asked(self, model: AdaptedModel) -> ModelDrafter:
        """The drafter whose model is asked; raises RecipeError where it has none to share."""
        methods = methods_of(self.draft)
        if len(methods) == 1:
            methods[0].check(model)
            found = methods[0].start_drafter(model)
            # One that proposes in a way of its own may have another vocabulary.
            if isinstance(found, ModelDrafter) and type(found).propose is ModelDrafter.propose:
                return found
        raise RecipeError(
            f"rsd(draft={self.draft}): it needs one drafter that runs a model of this vocabulary, "
            'such as "layers" or "model(path=FOLDER)"'
        )

    def start_drafter(self, model: AdaptedModel) -> RSDDrafter:
        return RSDDrafter(self, self.asked(model))


@dataclass(frozen=True)
class DraftPath:
    """A guess and those above it. node, place: its numbers in the tree and in what is asked.

    log_prob, value: log-probability and perturbed value of the whole path.
    """

    node: int
    place: int
    tokens: tuple[int, ...] = ()
    log_prob: float = 0.0
    value: float = 0.0


@dataclass(frozen=True)
class Child:
    """A guess to come below a path; prior: its probability there."""

    token: int
    prior: float
    log_prob: float
    value: float


class RSDDrafter(ModelDrafter):
    """Grows a tree level by level from the model of another drafter."""

    def __init__(self, options: RSD, asked: ModelDrafter) -> None:
        branches = options.branches()
        super().__init__("rsd", len(branches), max(branches), options.draws)
        self.asked, self.branches = asked, branches
        self.draft = getattr(asked, "draft", None)
        self.beam = options.width if options.kind == "beam" else None
        self.remember, self.notes = asked.remember, asked.notes

    def open(self, sequence: Sequence) -> Scorer:
        return self.asked.open(sequence)

    def reads(self, tokens: Seq[int]) -> Seq[int]:
        return self.asked.reads(tokens)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.start_round(tree)
        seen, asked, paths = self.reads(tokens), Tree(tokens[-1]), [DraftPath(0, 0)]
        for count in self.branches[:limit]:
            logits = self.runner.score(seen, asked, self.draft_depth.wants_state)
            grown = []
            for path in paths:
                probs = self.probs(logits[path.place], tokens, path.tokens).double().cpu()
                grown.append((path, probs, self.children(path, probs, count, len(tokens))))
            if self.beam is not None:
                grown = survivors(grown, self.beam)
            paths = [new for each in grown for new in self._add(tree, asked, *each)]
            if not paths:
                return
            best = max(paths, key=lambda path: path.log_prob)
            parent = asked.parents[best.place]
            state = self.runner.states[parent] if self.runner.states is not None else None
            if not self.draft_depth.should_continue(
                tree.buckets[best.node], tree.priors[best.node], state
            ):
                return

    def children(self, path: DraftPath, probs: Tensor, count: int, known: int) -> list[Child]:
        """Up to `count` children of a path by their distribution `[vocab]`, in the order of their
        values.

        known: tokens before the root's guesses.
        """
        if self.drawing:
            # No position is guessed in rounds so far apart that one number stands for both.
            number = self._rounds % (DRAWN // NODES_A_ROUND)
            stream = streams(self.name) + NODES_A_ROUND * number + path.place
            perturbed = self.sampler.perturbed(probs, known + len(path.tokens), stream)
        else:
            perturbed = probs.log()
        top = perturbed.topk(min(count, len(probs)))
        values = top.values + path.log_prob
        if self.drawing and self.beam is not None:
            values = conditioned(values, path.value)
        priors = probs[top.indices]
        rows = zip(top.indices.tolist(), priors.tolist(), values.tolist(), strict=True)
        log_probs = (priors.log() + path.log_prob).tolist()
        return [
            Child(token, prior, log_prob, value)
            for (token, prior, value), log_prob in zip(rows, log_probs, strict=True)
            if prior > 0
        ]

    def _add(
        self, tree: Tree, asked: Tree, path: DraftPath, probs: Tensor, children: Seq[Child]
    ) -> list[DraftPath]:
        """Adds the children of a path to the tree and to what is asked next."""
        buckets = [bucket_of(rank, child.prior) for rank, child in enumerate(children)]
        if self.drawing:
            ids = [child.token for child in children]
            nodes = tree.draw(path.node, ids, probs, self.name, buckets) if ids else []
        else:
            nodes = [
                tree.add(path.node, child.token, self.name, kind, child.prior)
                for child, kind in zip(children, buckets, strict=True)
            ]
        return [
            DraftPath(node, asked.add(path.place, child.token), (*path.tokens, child.token),
                 child.log_prob, child.value)
            for node, child in zip(nodes, children, strict=True)
        ]  # fmt: skip


def conditioned(values: Tensor, largest: float) -> Tensor:
    """Perturbed values `[n]`, the largest of all first, given that the largest is `largest`."""
    u = largest - values + torch.log1p(-torch.exp(values - values[0]))
    return largest - u.clamp_min(0) - torch.log1p(torch.exp(-u.abs()))


Grown = list[tuple[DraftPath, Tensor, list[Child]]]


def survivors(grown: Grown, width: int) -> Grown:
    """The `width` children of largest value among all; who lost all of his is a leaf."""
    values = sorted((child.value for *_, found in grown for child in found), reverse=True)
    least = values[width - 1] if len(values) > width else -torch.inf
    return [
        (path, probs, [child for child in found if child.value >= least])
        for path, probs, found in grown
    ]


__all__ = ["RSD", "RSDDrafter", "conditioned", "survivors"]
