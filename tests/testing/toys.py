"""Methods that are broken in one way each, and a sound one of each role."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.contexts import FractionalSteps
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.sampler import Sampler, streams
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless
from lengthwise.methods.base import Method, Question, option
from lengthwise.models.adapted_model import AdaptedModel


class Again(Drafter):
    """Guesses that what followed the last token before follows it again. It has no name."""

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.vocab_size = sequence.model.vocab_size
        self.sampler = Sampler(sampling)
        self.rounds = 0

    def ahead(self, tokens: Seq[int], limit: int) -> list[int]:
        ends = [at for at in range(len(tokens) - 1) if tokens[at] == tokens[-1]]
        return list(tokens[ends[-1] + 1 :][: min(4, limit)]) if ends else []

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tree.add_chain(self.ahead(tokens, limit))


class Raising(Again):
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        raise KeyError("nothing here")


class Chatty(Again):
    notes = ("all is well",)


class Deep(Again):
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tree.add_chain(self.ahead(tokens, 99) or [tokens[-1]] * 3)


class Huge(Again):
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tree.add(0, 10**9)


class Unlikely(Again):
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tree.add(0, 5, prior=float("nan"))


class Appending(Again):
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        super().propose(tokens, tree, limit)
        tokens.append(7)  # type: ignore[attr-defined]


class Scribbling(Again):
    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        logits.zero_()


class Forging(Again):
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tree.add_chain(self.ahead(tokens, limit), source="lookup")


class Silent(Again):
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        return None


class Feeding(Again):
    """Feeds the target's own sequence, and not a fork of it, at one temperature."""

    at = 0.0

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        super().begin(sequence, sampling)
        if sampling.temperature == self.at:
            prefill(sequence, sequence.tokens[-3:])


class FeedingWarm(Feeding):
    at = 1.0


class Drawn(Again):
    """Draws from a flat distribution, as it says."""

    drawing = True

    def order(self, probs: Tensor, position: int) -> Tensor:
        self.rounds += 1
        return self.sampler.perturbed(probs, position, streams(self.name) + self.rounds)

    def probs(self) -> Tensor:
        probs = torch.arange(1, self.vocab_size + 1, dtype=torch.float64) ** 2
        return probs / probs.sum()

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        token = int(self.order(self.probs(), len(tokens)).argmax())
        tree.draw(0, [token], self.probs(), self.name, [0])


class Likeliest(Drawn):
    """Says that it drew what it took because it is likely."""

    def probs(self) -> Tensor:
        return super().probs() ** 3 / (super().probs() ** 3).sum()

    def order(self, probs: Tensor, position: int) -> Tensor:
        return probs


class Knowing(Drawn):
    """Draws with the noise that the target chooses with."""

    def order(self, probs: Tensor, position: int) -> Tensor:
        return self.sampler.perturbed(probs, position)

    def probs(self) -> Tensor:
        return torch.full((self.vocab_size,), 1 / self.vocab_size, dtype=torch.float64)


class Heavy(Drawn):
    """Draws from what is no distribution."""

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tree.draw(0, [5], self.probs() * 2, self.name, [0])


def drafting(make: Callable[[], Any]) -> type[Method]:
    """A method that drafts so."""

    @dataclass(frozen=True)
    class Drafting(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.DRAFTING
        paper: ClassVar[str] = "none"
        lossless: ClassVar[bool] = True

        @classmethod
        def identity(cls, length: int) -> Method:
            return cls()

        def start_drafter(self, model: AdaptedModel) -> Drafter | None:
            drafter: Drafter | None = make()
            return drafter

    return Drafting


class Shorter(Lossless):
    """Accepts no guess at all, which is lossless."""

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        return [0], sampler.choose(logits[0], context)


class Jumping(Shorter):
    def walk(self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]) -> Any:
        found = super().walk(tree, logits, sampler, context)
        deep = max(range(len(tree)), key=lambda node: tree.depths[node])
        return ([0, deep], found[1]) if tree.depths[deep] > 1 else found


class Beyond(Shorter):
    def walk(self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]) -> Any:
        return [0], logits.shape[-1] + 5


class Cutting(Shorter):
    def walk(self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]) -> Any:
        found = super().walk(tree, logits, sampler, context)
        del context[:2]
        return found


class Trusting(Shorter):
    """Accepts the first guess, whatever it is."""

    def walk(self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]) -> Any:
        node = next(iter(tree.children[0].values()))
        return [0, node], sampler.choose(logits[node], [*context, tree.tokens[node]])


def verifying(make: Callable[[], Any]) -> type[Method]:
    """A method that accepts guesses so, and says that it is lossless."""

    @dataclass(frozen=True)
    class Verifying(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.DRAFTING
        paper: ClassVar[str] = "none"
        lossless: ClassVar[bool] = True

        def start_verifier(self, model: AdaptedModel) -> Any:
            return make()

    return Verifying


class All(LengthPolicy):
    """All of everything."""


class Broken(All):
    def gained(self, load: Load, drafter: Drafter, tokens: int) -> None:
        raise ZeroDivisionError("no steps yet")


class Numbers(All):
    def draft_depth(self, *given: Any) -> Any:
        return 4


class Adding(All):
    def choose(self, load: Load, trees: Seq[Tree], acceptances: Any) -> list[Tree]:
        found = [tree.keep(sorted(tree.drawn())) for tree in trees]
        for tree in found:
            tree.add(0, 10, "nobody")
        return found


class Choosy(All):
    def choose(self, load: Load, trees: Seq[Tree], acceptances: Any) -> list[Tree]:
        return [tree.keep([0]) for tree in trees]


class Sweeping(All):
    """Prunes the tree that it was given."""

    def choose(self, load: Load, trees: Seq[Tree], acceptances: Any) -> list[Tree]:
        found = [tree.keep(range(len(tree))) for tree in trees]
        for tree in trees:
            tree.priors[-1] = 0.0
        return found


def choosing(make: Callable[[], Any]) -> type[Method]:
    """A method with such a length policy."""

    @dataclass(frozen=True)
    class Choosing(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.DRAFTING
        paper: ClassVar[str] = "none"
        lossless: ClassVar[bool] = True

        def start_policy(self, model: AdaptedModel) -> LengthPolicy | None:
            policy: LengthPolicy = make()
            return policy

    return Choosing


Ids = Callable[[Tensor], Tensor]


def sound(ids: Tensor) -> Tensor:
    return ids


def backwards(ids: Tensor) -> Tensor:
    return ids.flip(-1)


def twice(ids: Tensor) -> Tensor:
    return torch.cat([ids, ids[-1:]], -1)


def outside(ids: Tensor) -> Tensor:
    return torch.cat([ids, ids[-1:] + 1000], -1)


def selecting(change: Ids) -> type[Method]:
    """Every second far entry, named as `change` leaves them."""

    class Second:
        query_block = 8
        last_alone = False
        wants_attention_mass = 0

        def extend(self, entries: KVEntries, far: KVStore) -> None:
            return None

        def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
            return SelectedKeys(change(torch.arange(0, len(far), 2)))

        def tokens_until_change(self, length: int, boundary: int) -> int | None:
            return None

        def tensors(self) -> list[Tensor | None]:
            return []

    @dataclass(frozen=True)
    class Selecting(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.SELECTION
        paper: ClassVar[str] = "none"
        chunking_exact: ClassVar[bool] = False
        decoding_exact: ClassVar[bool] = False

        def placement(self, model: AdaptedModel) -> Placement | None:
            return Placement(window=16)

        def start_selector(self, layer: Any) -> Any:
            return Second()

    return Selecting


def retaining(change: Ids) -> type[Method]:
    """Every `step`-th entry of the prompt, named as `change` leaves them."""

    class Thin:
        window = 0
        wants_attention_mass = False
        wants_token_nll = False

        def __init__(self, step: int) -> None:
            self.step = step

        def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
            if update.phase is Phase.PREFILL and self.step > 1:
                group.keep(change(torch.arange(0, len(group.compressible), self.step)))

        def tokens_until_change(self, sequence: Sequence) -> int | None:
            return None

    @dataclass(frozen=True)
    class Retaining(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.RETENTION
        paper: ClassVar[str] = "none"
        ordinary_only: ClassVar[bool] = True
        step: int = option(2, "keep one entry in this many", low=1)

        @classmethod
        def identity(cls, length: int) -> Method:
            return cls(step=1)

        def start_retention(self, model: AdaptedModel) -> Any:
            return Thin(self.step)

    return Retaining


__all__ = ["choosing", "drafting", "retaining", "selecting", "verifying"]


class Shuffled(FractionalSteps):
    """Says that the order of documents is nothing, and has them one behind the other."""

    order_free = True


def placing(rule: type[FractionalSteps]) -> type[Method]:
    """Documents at a half of a position a token, or at whole ones."""

    @dataclass(frozen=True)
    class Placing(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.POSITIONS
        paper: ClassVar[str] = "none"
        frozen_positions: ClassVar[bool] = True
        ordinary_only: ClassVar[bool] = True
        delta: float = option(0.5, "positions a token", low=0.1, high=1.0)

        @classmethod
        def identity(cls, length: int) -> Placing:
            return cls(delta=1.0)

        def contexts(self, model: AdaptedModel) -> FractionalSteps:
            return rule(self.delta)

    return Placing
