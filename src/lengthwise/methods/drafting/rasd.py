"""RASD: a model's tree of guesses and retrieved continuations, pruned and joined into one.

Quan et al., "RASD: Retrieval-Augmented Speculative Decoding", Findings of ACL 2025,
arXiv:2503.03434.

A draft model's tree is short, and good on what the model was trained on. What followed the same
words elsewhere is long, and good on what is being quoted. The draft model says which of the
retrieved continuations are worth verifying, without a forward of its own for that:

    T_m = the draft model's tree, q = its probabilities of the first guess
    T_r = continuations r of the longest end of the text that is found, with counts
    keep r  if  r_1 is among the `top` of q, or q(r_1) > tau;  rank by q(r_1) * count(r) / counts
    T   = T_m with the kept r inserted from the root; equal beginnings share their nodes

The longest match stays whatever q says, where it is of two tokens and more. Else long copies would
be lost outside the draft model's domain. Only retrieved guesses are pruned. Drawn guesses must not
be pruned by their tokens.

The paper drafts with EAGLE heads, ours with a second model or some of the target's own layers. The
paper retrieves from the input, as prompt lookup does, or from a corpus, as REST does. So does ours:
`datastore` is a corpus, and the input is the default. The input has too few places of a match to
count. There a match weighs as much as it is long. The paper's settings of the pruning were not
available. `top`, `tau` and the share of the nodes are ours. `top` follows the 10 that EAGLE-2
keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.drafting._shared.draft_choice import (
    OpenScorer,
    draft_model,
    layers_option,
    notes,
    one_choice,
    open_scorer,
    path_option,
)
from lengthwise.methods.drafting._shared.model_drafter import (
    ModelDrafter,
    Scorer,
    depth_option,
    draws_option,
    width_option,
)
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.datastore import SEPARATOR, Datastore, opened_for
from lengthwise.retrieval.suffix_index import SuffixIndex

# Places of a match that are looked at: in the context, no two that go on alike; in a datastore.
IN_CONTEXT, IN_STORE = 8, 64
LONGEST, SHORTEST = 32, 2


@dataclass(frozen=True)
class Rasd(Method):
    """path or layers: who guesses. datastore: where continuations are retrieved, none is the
    context. retrieved, draft: nodes and depth of the retrieved part. depth, width: of the other."""

    name: ClassVar[str] = "rasd"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "RASD: Retrieval-Augmented Speculative Decoding",
        "Quan et al.",
        2025,
        arxiv="2503.03434",
        venue="Findings of ACL",
    )
    lossless: ClassVar[bool] = True
    path: str = path_option()
    layers: str = layers_option()
    datastore: str = option("", "file to retrieve from; none: the context itself")
    top: int = option(10, "first guesses of the model that a retrieved one may begin with", low=0)
    tau: float = option(0.05, "probability of a first guess that is enough as well", low=0, high=1)
    retrieved: int = option(32, "most retrieved guesses a step", low=1)
    draft: int = option(16, "most retrieved guesses in a row", low=1)
    depth: int = depth_option(4)
    width: int = width_option(2)
    draws: str = draws_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        one_choice(self.name, self.path, self.layers)

    @classmethod
    def identity(cls, length: int) -> Rasd:
        """The whole model guesses what it will say."""
        return cls(layers="100%")

    def check(self, model: AdaptedModel) -> None:
        self.start_drafter(model)

    def store(self, model: AdaptedModel) -> Datastore | None:
        """The datastore, where one is named; raises RecipeError or Refused where it cannot serve
        this model."""
        return opened_for(self.name, self.datastore, model)

    def start_drafter(self, model: AdaptedModel) -> RasdDrafter:
        begin = open_scorer(self.name, self.path, self.layers, model)
        drafter = RasdDrafter(self, begin, self.store(model))
        drafter.draft = draft_model(self.name, self.path, self.layers, model)
        drafter.notes = notes(self.name, self.path, model)
        return drafter


@dataclass(frozen=True)
class Continuation:
    """A retrieved continuation. weight: its share of what was retrieved. length: of the match."""

    tokens: list[int]
    weight: float
    length: int


class Source(Protocol):
    def read(self, tokens: Seq[int]) -> None:
        """Takes in a text that is there before anything is sought."""
        ...

    def find(self, tokens: Seq[int], depth: int) -> list[Continuation]:
        """What followed the end of tokens, up to `depth` tokens each, the best match first."""
        ...


class RasdDrafter(ModelDrafter):
    """Adds the guesses of the model asked by `begin`, then retrieved ones under a name of their
    own. So what a guess is worth that both make is learned from outcomes.

    store: in place of the context.
    """

    def __init__(self, options: Rasd, begin: OpenScorer, store: Datastore | None = None) -> None:
        super().__init__("rasd", options.depth, options.width, options.draws)
        self.options = options
        self.draft: AdaptedModel | None = None
        self._begin = begin
        self.source: Source = ContextSource() if store is None else StoreSource(store)
        self._first: Tensor | None = None

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        super().begin(sequence, sampling)
        self.source.read(sequence.tokens)

    def open(self, sequence: Sequence) -> Scorer:
        return self._begin(sequence)

    def probs(self, logits: Tensor, tokens: Seq[int], path: Seq[int]) -> Tensor:
        found = super().probs(logits, tokens, path)
        if not path:
            self._first = found
        return found

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        super().propose(tokens, tree, limit)
        assert self._first is not None
        paths = self.source.find(tokens, min(limit, self.options.draft))
        room = self.options.retrieved
        for path, prob in self.prune(paths, self._first):
            room -= graft(tree, path, prob, room)
            if not room:
                return

    def prune(self, paths: Seq[Continuation], probs: Tensor) -> list[tuple[Continuation, float]]:
        """Paths that are kept with the probability of their first token by the draft model's
        `probs` `[vocab]`: the best match, then the others as they rank. One token is no match."""
        paths = [path for path in paths if path.tokens and path.tokens[0] < len(probs)]
        if not paths:
            return []
        firsts = probs[[path.tokens[0] for path in paths]].tolist()
        least = self.options.tau
        if self.options.top:
            least = min(least, float(probs.topk(min(self.options.top, len(probs))).values[-1]))
        found = list(zip(paths, firsts, strict=True))
        exact = found[:1] if paths[0].length >= SHORTEST else []
        others = [each for each in found[len(exact) :] if 0 < each[1] >= least]
        return exact + sorted(others, key=lambda each: -each[1] * each[0].weight)


def graft(tree: Tree, path: Continuation, prob: float, room: int) -> int:
    """Inserts a path from the root with at most `room` new nodes; returns how many are new.

    prob: of its first token, by the draft model. What follows is believed by its match,
    which grows with it.
    """
    node, before = 0, len(tree)
    for depth, token in enumerate(path.tokens):
        if len(tree) - before == room and token not in tree.children[node]:
            break
        length = min(path.length + depth, LONGEST)
        prior = 1 - 0.8 / length
        bucket = length.bit_length()
        if not depth:
            # The two together know more than either; how much more is learned by bucket.
            prior, bucket = max(prob, prior * path.weight), 8 * (1 + int(4 * min(prob, 0.99)))
            bucket += length.bit_length()
        node = tree.add(node, token, "rasd retrieved", bucket, prior)
    return len(tree) - before


class ContextSource:
    """Retrieves from the text itself, its prompt and what was said since."""

    def __init__(self) -> None:
        self.index = SuffixIndex(1, LONGEST)

    def read(self, tokens: Seq[int]) -> None:
        """See `Source`."""
        self.index.extend(tokens[len(self.index) :])

    def find(self, tokens: Seq[int], depth: int) -> list[Continuation]:
        """See `Source`: no two begin alike; each is weighted by the length of its match."""
        self.read(tokens)
        places = self.index.places(IN_CONTEXT)
        total = sum(length for _, length in places)
        return [
            Continuation(self.index.after(end, depth), length / total, length)
            for end, length in places
        ]


class StoreSource:
    """Retrieves from a corpus."""

    def __init__(self, store: Datastore) -> None:
        self.store = store

    def read(self, tokens: Seq[int]) -> None:
        """See `Source`: what is sought in does not grow."""
        return None

    def find(self, tokens: Seq[int], depth: int) -> list[Continuation]:
        """See `Source`: all continuations of the longest match, weighted by their counts."""
        match = self.store.longest(tokens[-LONGEST:], LONGEST, SHORTEST)
        if not match:
            return []
        rows = self.store.continuations(match, depth, IN_STORE).tolist()
        counts = Counter(
            tuple(row[: row.index(SEPARATOR)] if SEPARATOR in row else row) for row in rows
        )
        return [
            Continuation(list(row), count / len(rows), match.length)
            for row, count in counts.most_common()
        ]


__all__ = ["ContextSource", "Continuation", "Rasd", "RasdDrafter", "StoreSource", "graft"]
