"""What all drafters that run a model share: they draft level by level.

A level is one forward of the draft model over the guesses so far, and its likeliest tokens
become guesses. The best of them is continued next, and its siblings stand beside it. After each
level the policy says whether another pays. In greedy decoding the likeliest tokens are those of
largest probability. Under sampling there are two ways:

    coupled    the largest of log q(x) + noise, with the very noise the target will choose with at
               that position: plain guesses, and drafted text equals plain text of the same seed
    rejection  the same with noise of the drafter's own: draws without replacement from q, kept with
               q, that the verifier accepts or rejects; equal to plain sampling in distribution

q is the drafter's distribution after temperature, top-k, top-p and penalties, as the target's is.

Where another drafter draws, one that is coupled guesses what is likeliest instead. A coupled guess
holds the noise of a choice that is still to be made. If guesses were pruned by it, that noise would
influence whether a draw decides its own position. The text would then have another distribution.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.kv_cache.held import Held
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampler import Sampler, streams
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError
from lengthwise.methods.options import option

DRAWS = ("coupled", "rejection")
# Kinds of guesses by the drafter's own probability, for each of the first ranks.
BUCKETS = 8
RANKS = 4


class Scorer(Protocol):
    """A model that scores trees of guesses: `DraftModelRunner`, or what stands in for it.

    states: the hidden states `[nodes, hidden]` of the last tree, where they were wanted.
    """

    states: Tensor | None

    def score(self, tokens: Seq[int], tree: Tree, want_states: bool = False) -> Tensor:
        """Logits `[nodes, vocab]` at every node of a tree whose root is tokens[-1]."""
        ...


@dataclass(frozen=True)
class DraftToken:
    """A guess as its drafter sees it; the tree may know the node by another drafter's name."""

    node: int
    token: int
    bucket: int
    prior: float


class ModelDrafter(Drafter):
    """Guesses a chain of up to `depth` tokens, and `width` - 1 others beside each of them.

    runner: the model that is asked. sampler: the request's. vocab_size: the target's. coupled: the
    guesses of this round follow the target's noise.
    """

    runs_model = True
    runner: Scorer
    sampler: Sampler
    vocab_size: int

    def __init__(self, name: str, depth: int, width: int = 1, draws: str = "coupled") -> None:
        self.name = name
        self.depth = depth
        self.width = width
        self.draws = draws
        self.coupled = self._noted = False
        self._rounds = 0
        self._text: list[int] = []
        self._known = 0

    @abstractmethod
    def open(self, sequence: Sequence) -> Scorer:
        """The model to ask, which has read the prompt of a sequence whose prompt has not ended."""

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.sampler = Sampler(sampling)
        self.sampler.prompt = len(sequence)
        self.vocab_size = sequence.model.vocab_size
        self._text, self._known = [], 0
        self.runner = self.open(sequence)

    @property
    def drawing(self) -> bool:  # type: ignore[override]
        """Whether guesses are drawn with noise of their own, rather than the likeliest taken."""
        return self.draws == "rejection" and self.sampler.sampling.temperature > 0

    def held(self) -> Seq[Held]:
        # What stands in for a second model drafts over the target's own cache.
        runner = getattr(self, "runner", None)
        return [runner.sequence] if isinstance(runner, DraftModelRunner) else []

    def reads(self, tokens: Seq[int]) -> Seq[int]:
        """What the runner reads in place of tokens; the last token stays the last."""
        return tokens

    def start_round(self, tree: Tree) -> None:
        """Begins guessing for a tree; a `propose` of one's own calls it first."""
        self._rounds += 1
        couples = self.draws == "coupled" and self.sampler.sampling.temperature > 0
        self.coupled = couples and not tree.drawing
        if couples and not self.coupled and not self._noted:
            self._noted = True
            self.notes = [
                *self.notes,
                f"{self.name} guessed what is likeliest instead of coupled guesses, for another "
                "drafter draws; give both the same draws",
            ]

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.start_round(tree)
        seen, asked, node = self.reads(tokens), Tree(tokens[-1]), 0
        path: list[int] = []
        for _ in range(min(limit, self.depth)):
            logits = self.runner.score(seen, asked, self.draft_depth.wants_state)[-1]
            found = self.guess(logits, tokens, path, tree, node)
            best = found[0]
            state = self.runner.states[-1] if self.runner.states is not None else None
            if not self.draft_depth.should_continue(best.bucket, best.prior, state):
                return
            path.append(best.token)
            node, _ = best.node, asked.add(len(asked) - 1, best.token)

    def guess(
        self, logits: Tensor, tokens: Seq[int], path: Seq[int], tree: Tree, node: int
    ) -> list[DraftToken]:
        """Adds up to `width` guesses below a node that stands behind tokens and path, best first.

        logits `[draft vocab]` are the drafting model's own.
        """
        probs = order = self.probs(logits, tokens, path)
        if self.drawing:
            # Fresh noise every round: a position that is guessed again is drawn anew.
            stream = streams(self.name) + self._rounds
            order = self.sampler.perturbed(probs, len(tokens) + len(path), stream)
        picked = order.topk(min(self.width, len(order))).indices
        priors = probs[picked].tolist()
        ids = [token for token, prior in zip(picked.tolist(), priors, strict=True) if prior > 0]
        if not ids:
            raise LengthwiseError("the model it asks gives no token a probability above 0")
        buckets = [bucket_of(rank, priors[rank]) for rank in range(len(ids))]
        if self.drawing:
            nodes = tree.draw(node, ids, probs, self.name, buckets)
        else:
            nodes = [
                tree.add(node, token, self.name, kind, prior)
                for token, kind, prior in zip(ids, buckets, priors, strict=False)
            ]
        return [DraftToken(*each) for each in zip(nodes, ids, buckets, priors, strict=False)]

    def probs(self, logits: Tensor, tokens: Seq[int], path: Seq[int]) -> Tensor:
        """The drafter's probability `[vocab_size]` that each token is what the target says next.

        Greedy its probabilities; sampling its distribution, or where it is coupled what is left of
        that once the noise is known, since the target will choose by the same noise.
        """
        logits = fit_vocab(logits, self.vocab_size)
        sampling = self.sampler.sampling
        # Only the penalty looks at it.
        context = self._context(tokens, path) if sampling.repetition_penalty != 1 else ()
        if sampling.temperature == 0:
            return self.sampler.process(logits, context).softmax(-1)
        probs = self.sampler.probs(logits, context)
        if not self.coupled:
            return probs
        return self.sampler.perturbed(probs, len(tokens) + len(path)).softmax(-1)

    def _context(self, tokens: Seq[int], path: Seq[int]) -> list[int]:
        """The tokens, which only grow from round to round, and a path behind them: one list, of
        which a level exchanges the end."""
        known = min(self._known, len(tokens))
        self._text[known:] = [*tokens[known:], *path]
        self._known = len(tokens)
        return self._text


def fit_vocab(logits: Tensor, vocab_size: int) -> Tensor:
    """Logits `[n]` cut, or filled up with impossible tokens, to `[vocab_size]`."""
    missing = vocab_size - len(logits)
    return F.pad(logits, (0, missing), value=-torch.inf) if missing > 0 else logits[:vocab_size]


def bucket_of(rank: int, prior: float) -> int:
    """Guesses of like rank among their siblings and of like probability are counted together."""
    return min(rank, RANKS - 1) * BUCKETS + min(int(prior * BUCKETS), BUCKETS - 1)


def depth_option(default: int) -> Any:
    return option(default, "most tokens guessed in a row", low=1)


def width_option(default: int) -> Any:
    return option(default, "guesses at each depth: the best, and others beside it", low=1)


def draws_option() -> Any:
    return option("coupled", "how guesses are made when the target samples", choices=DRAWS)


__all__ = [
    "DraftToken", "ModelDrafter", "Scorer", "bucket_of", "depth_option", "draws_option",
    "fit_vocab", "width_option",
]  # fmt: skip
