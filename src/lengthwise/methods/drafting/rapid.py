"""RAPID: the model itself, or a larger one, guesses from the passages that the question is about.

Chen et al., "Long-Context Inference with Retrieval-Augmented Speculative Decoding", ICML 2025,
arXiv:2502.20330.

Verifying a few tokens over a long context costs what one does. Guessing is cheap where the drafter
reads a short context: chunks of the prompt retrieved by the question at its end.

    draft   q = model(x | first tokens, retrieved chunks in their order, question, what was said)
    plain   verify with p = model(x | everything): nothing is lost
    augmented (lossy by intent): p is pulled towards q, which may know better where the context is
            longer than the model reads well,
                mask=p_hat   p_hat = softmax(z / T + eta (q - p)), and p where p_hat < 0.1 max
                             p_hat; normalised
                mask=q       p_hat = softmax(z / T + eta (q - p) [q >= 0.1 max q])
            accept x ~ q with min(1, p_hat(x) / q(x)), else draw from norm(max(p_hat - q, 0))

The first mask is that of the paper's equations, and the default. The second is that of the released
code. There a token that the drafter thinks unlikely is not pulled at all, before the softmax. What
is pulled takes from it in proportion. See the page for what either gives.

The paper corrects a rejection with norm(max(p - p_hat, p - q, 0)), which gives neither p nor p_hat.
Ours says exactly p_hat where the drafter guessed, and p where it did not, as after its last guess.
At temperature 0 both distributions are taken at 1, and the largest p_hat is said.

Retrieval happens once a request, by shared tokens unless an encoder is given. The paper's budget is
a 24th of the input, and at least 4,096 tokens. Ours is bounded by a quarter of the input too, so
that short inputs are drafted for as well.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.tree import Draws, Tree
from lengthwise.engine.speculative.verification import match, reject
from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.drafting._shared.draft_choice import notes, path_option, second_model
from lengthwise.methods.drafting._shared.model_drafter import (
    DraftToken,
    ModelDrafter,
    depth_option,
    draws_option,
    width_option,
)
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.passages import Scoring, bm25, encoder, retrieve

MODES = ("plain", "augmented")
# Whose probability says which tokens are pulled, and the share of the largest that is needed.
MASKS = ("p_hat", "q")
TAIL = 0.1
# The retrieved text: at least so many tokens or this part of the input, at most this part of it.
LEAST, PART, MOST = 4096, 24, 4
PULL = Needs("mode=augmented", lambda method: method.mode == "augmented")


@dataclass(frozen=True)
class Rapid(Method):
    """path: who guesses, the model itself by default. chunk, budget, threshold: of retrieval. head,
    tail: first and last tokens of the prompt that are always read. eta, mask: of the augmented
    mode. gamma: guesses in a row."""

    name: ClassVar[str] = "rapid"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Long-Context Inference with Retrieval-Augmented Speculative Decoding",
        "Chen et al.",
        2025,
        arxiv="2502.20330",
        venue="ICML",
        code="https://github.com/NUS-TRAIL/RAPID",
    )
    lossless: ClassVar[bool] = True
    path: str = path_option()
    chunk: int = option(512, "tokens of a chunk, at most a 16th of the prompt", low=8)
    budget: int = option(0, "tokens retrieved; 0: max(4096, a 24th), at most a quarter", low=0)
    threshold: float = option(0.3, "least score of a chunk, as a cosine", low=0, high=1)
    head: int = option(32, "first tokens of the prompt that are read", low=0)
    tail: int = option(32, "last tokens of the prompt that are read: the question", low=1)
    encoder: str = option("", "folder of an encoder that compares; none: shared tokens")
    mode: str = option("plain", "what is verified with: p, or p pulled towards q", choices=MODES)
    eta: float = option(10.0, "how far p is pulled", low=0, needs=PULL)
    mask: str = option(
        "p_hat", "by which distribution unlikely tokens are not pulled", choices=MASKS, needs=PULL
    )
    gamma: int = depth_option(10)
    width: int = width_option(1)
    draws: str = draws_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "augmented":
            # The class says what the defaults are; this setting of it is lossy.
            object.__setattr__(self, "lossless", False)

    @classmethod
    def identity(cls, length: int) -> Rapid:
        """A pull of 0 leaves the distribution, and so the text, as it is."""
        return cls(mode="augmented", eta=0.0)

    def check(self, model: AdaptedModel) -> None:
        self.start_drafter(model)

    def draft_model(self, model: AdaptedModel) -> AdaptedModel:
        return second_model(self.name, self.path, model) if self.path else model

    def scoring(self, model: AdaptedModel) -> Scoring:
        """How chunks are compared with the question."""
        if not self.encoder:
            return bm25
        tokenizer = model.tokenizer
        if tokenizer is None:
            raise Refused(
                f"rapid(encoder={self.encoder}) compares text, and this model came without a "
                "tokenizer",
                "load it with lengthwise.load, or leave out the encoder",
            )
        return encoder(self.encoder).scoring(
            lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))
        )

    def shortened(self, tokens: Seq[int], score: Scoring) -> list[int]:
        """The prompt that the drafter reads: what it is not worth shortening stays whole."""
        whole = list(tokens)
        budget = self.budget or min(max(LEAST, len(whole) // PART), len(whole) // MOST)
        if len(whole) <= self.head + budget + self.tail:
            return whole
        end = len(whole) - self.tail
        chunk = max(8, min(self.chunk, len(whole) // 16))
        body, asked = whole[self.head : end], whole[end:]
        found = retrieve(body, asked, chunk, budget, self.threshold, score)
        return [*whole[: self.head], *found, *asked]

    def start_drafter(self, model: AdaptedModel) -> RapidDrafter:
        drafter = RapidDrafter(self, self.draft_model(model), self.scoring(model))
        drafter.notes = notes(self.name, self.path, model)
        return drafter

    def start_verifier(self, model: AdaptedModel) -> AugmentedVerifier | None:
        return AugmentedVerifier(self.eta, self.mask) if self.mode == "augmented" else None


class RapidDrafter(ModelDrafter):
    """Asks a model that has read a shortened prompt, which has a cache of its own."""

    def __init__(self, options: Rapid, draft: AdaptedModel, score: Scoring) -> None:
        self.augmented = options.mode == "augmented"
        # The verifier compares with the distribution that guesses were drawn from, so they must be
        # drawn.
        draws = "rejection" if self.augmented else options.draws
        super().__init__("rapid", options.gamma, options.width, draws)
        self.options, self.draft, self.score = options, draft, score
        self.short: list[int] = []
        self._prompt = 0

    def open(self, sequence: Sequence) -> DraftModelRunner:
        self._prompt = len(sequence.tokens)
        self.short = self.options.shortened(sequence.tokens, self.score)
        return DraftModelRunner.prefilled(self.draft, self.short)

    def reads(self, tokens: Seq[int]) -> Seq[int]:
        """The shortened prompt and all that was said since."""
        return [*self.short, *tokens[self._prompt :]]

    def guess(
        self, logits: Tensor, tokens: Seq[int], path: Seq[int], tree: Tree, node: int
    ) -> list[DraftToken]:
        found = super().guess(logits, tokens, path, tree, node)
        if self.augmented and self.sampler.sampling.temperature == 0:
            # Greedy guesses are not drawn, but their distribution pulls the target's as well.
            probs = self.probs(logits, tokens, path)
            nodes = tuple(guess.node for guess in found)
            tree.draws.setdefault(node, []).append(Draws(probs, nodes))
        return found


class AugmentedVerifier:
    """Says p_hat where a drafter's distribution is known, p elsewhere. Lossy; see the module."""

    def __init__(self, eta: float, mask: str = "p_hat") -> None:
        self.eta, self.mask = eta, mask

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        """See `engine.speculative.verification.Verifier`."""
        length, greedy = len(context), sampler.sampling.temperature == 0

        def choose(node: int, below: list[int]) -> int:
            # The list is the loop's own and may be long: it grows and shrinks in place.
            context[length:] = below
            groups = tree.draws.get(node, ())
            if not groups:
                return sampler.choose(logits[node], context)
            probs = sampler.probs(logits[node], context)
            target = pulled(probs, groups[0].probs, self.eta, self.mask)
            if greedy:
                return int(target.argmax())
            return reject(tree, groups, target, sampler, len(context))

        found = match(tree, choose)
        del context[length:]
        return found


def pulled(probs: Tensor, draft: Tensor, eta: float, mask: str = "p_hat") -> Tensor:
    """p_hat `[vocab]` of the target's distribution p and the drafter's distribution q, float64 on
    the CPU.

    mask: see the module. What p forbids stays forbidden.
    """
    p, q = (each.to("cpu", torch.float64) for each in (probs, draft))
    pull = eta * (q - p)
    if mask == "q":
        return torch.softmax(p.log() + torch.where(q < TAIL * q.max(), 0, pull), -1)
    found = torch.softmax(p.log() + pull, -1)
    found = torch.where(found < TAIL * found.max(), p, found)
    return found / found.sum()


__all__ = ["AugmentedVerifier", "Rapid", "RapidDrafter", "pulled"]
