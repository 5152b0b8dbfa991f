"""Roles as base classes: an author writes one function, and the base does the rest.

    ScoredRetention   score(key, value, update): what entries of a prompt are worth
    ScoredSelection   score(queries, far): what far keys are worth to a query
    ChainDrafter      draft(tokens, limit): the tokens that come next

Each is a `Method`, so that one class is the whole plug-in. What they cannot say is said by a class
that inherits `Method` and returns an object of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise._utils.papers import Papers
from lengthwise.engine.kv_cache.by_head import keep_by_head
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, Phase
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods.base import Budget, Method, Question, option
from lengthwise.methods.retention.counting import (
    floor_option,
    full_layers,
    layer_tokens,
    near_tokens,
    needs_full_layers,
    prompt_entries,
    require_budget,
)
from lengthwise.methods.retention.head_budgets import best_by_head
from lengthwise.methods.selection.reading import check_budget, check_window, chosen_tokens
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

# Buckets of a chain's guesses: one for each of its first levels, the last for all that are deeper.
CHAIN_BUCKETS = 8


@dataclass(frozen=True)
class ScoredRetention(Method, ABC):
    """Keeps the best scored entries of a prompt: the author writes `name` and `score`.

    It acts once, when the prompt is complete. Later tokens are all kept. The first `sinks` and the
    last `recent` tokens stay whatever their scores are. A prompt that is within the budget is left
    whole. Of a recipe with a near window only what lies beyond the window is scored, and all of the
    window stays.

    A budget of T tokens is the bytes of T plain tokens. What is stored beside keys and values, the
    index of each head, is paid out of it.

    observed: how many of the prompt's last queries `update.queries` carries; 0 is none.
    moments: first tokens that `update.moments`, mean and covariance of the prompt's queries, leaves
    out; None is that they are not wanted.
    """

    question: ClassVar[str] = Question.RETENTION
    paper: ClassVar[Papers] = None
    observed: ClassVar[int] = 0

    budget: Budget = option(Budget(1024), "what each layer keeps of the prompt")
    sinks: int = option(4, "first tokens that are always kept", low=0)
    recent: int = option(32, "last tokens of the prompt that are always kept", low=0)
    floor: int = floor_option()

    @abstractmethod
    def score(self, key: Tensor, value: Tensor, update: CacheUpdate) -> Tensor:
        """What each entry of one layer is worth; the highest are kept, by key head.

        Args:
            key: `[kv_heads, entries, head_dim]` as it is stored: rotated, unless another method of
                the recipe keeps keys un-rotated. Not to be changed.
            value: `[kv_heads, entries, value_dim]`. Not to be changed.
            update: the layer's facts, the sequence, and the last `observed` queries of the prompt
                `[heads, observed, head_dim]`, rotated as they meet these keys.

        Returns:
            Scores `[kv_heads, entries]` of any floating type. Each head keeps entries of its own.
        """

    @classmethod
    def identity(cls, length: int) -> Method | None:
        """A budget of the whole prompt.

        Args:
            length: tokens of the prompt.
        """
        return cls(budget=Budget(length), sinks=0, recent=0)

    @property
    def protected(self) -> int:
        """Entries that stay whatever they are worth."""
        return self.sinks + self.recent

    def check(self, model: AdaptedModel) -> None:
        """Raises Refused where the options cannot be met on this model.

        Args:
            model: the adapted model the recipe runs on.
        """
        needs_full_layers(self.name, model)
        require_budget(
            f"{self.name}(budget={self.budget}, sinks={self.sinks}, recent={self.recent}): sinks "
            "and recent tokens alone are",
            self.budget, self.protected, f"use a budget of at least {self.protected + 1}",
        )  # fmt: skip

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        """Raises Refused where a prompt of `length` tokens cannot be kept within the budget.

        Args:
            model: the adapted model the recipe runs on.
            length: tokens of the prompt.
            placement: the whole recipe's. Entries in its window stay, and are paid for first.
        """
        near = 0 if placement.window is None else HeadGroup(placement).near_at(length)
        for layer in full_layers(model):
            self.entries(model, layer, length, near)

    def entries(self, model: AdaptedModel, layer: LayerFacts, length: int, near: int) -> int | None:
        """Entries that stay of those a prompt of `length` tokens has beyond its `near` newest ones.

        Args:
            model: the adapted model the recipe runs on.
            layer: facts of the layer whose entries they are.
            length: tokens of the prompt.
            near: entries that a window keeps; 0 is that there is none.

        Returns:
            The number of entries a key head, or None where all of them stay.

        Raises:
            Refused: where the budget does not pay for those that are always kept.
        """
        always = near_tokens(layer, model.dtype, near) or self.protected
        allowed = layer_tokens(self.budget, model, length, always + self.floor)
        count = prompt_entries(layer, model.dtype, length, allowed, near)
        least = self.sinks if near else self.protected
        if count is not None and count < least:
            raise Refused(
                f"{self.name}: a budget of {allowed} tokens does not pay for the {least} that are "
                "always kept",
                "give a larger budget, or fewer sinks and recent tokens",
            )
        return count

    @property
    def moments(self) -> int | None:
        """First tokens that `update.moments` leaves out; None where it is not wanted."""
        return None

    def head_counts(self, scores: Tensor, count: int) -> list[int]:
        """How many entries each key head keeps.

        Args:
            scores: float32 `[kv_heads, entries]`; infinite for what always stays.
            count: entries that the budget pays for, a key head on average.

        Returns:
            By key head; in all `count` times the heads. By default all keep the same.
        """
        return [count] * len(scores)

    def start_retention(self, model: AdaptedModel) -> ScoredEntries:
        return ScoredEntries(self)


class ScoredEntries:
    """The retention of one sequence that a `ScoredRetention` scores."""

    wants_attention_mass = False
    wants_token_nll = False

    def __init__(self, method: ScoredRetention) -> None:
        self.method = method
        self.window = method.observed
        self.wants_moments = method.moments

    def retain(self, group: HeadGroup, update: CacheUpdate) -> Seq[HeadGroup] | None:
        """Deletes what is not kept, at the end of the prompt."""
        if update.phase is not Phase.PREFILL:
            return None
        near, windowed = group.tighten(), group.placement.window is not None
        length, held = len(update.sequence), len(group.compressible)
        count = self.method.entries(update.sequence.model, update.layer, length, near)
        if count is None or count >= held:
            return None
        scores = self._scores(group, update, 0 if windowed else self.method.recent)
        return keep_by_head(group, best_by_head(scores, self.method.head_counts(scores, count)))

    def _scores(self, group: HeadGroup, update: CacheUpdate, recent: int) -> Tensor:
        """What entries are worth, float32 `[kv_heads, entries]`; infinite for what always stays."""
        entries = group.compressible.read()
        assert entries is not None
        scores = self.method.score(entries.key, entries.value, update)
        _check_scores(f"{self.method.name}.score", scores, [entries.key.shape[:2]])
        scores = scores.float().clone()
        scores[:, : self.method.sinks] = torch.inf
        scores[:, scores.shape[1] - recent :] = torch.inf
        return scores

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """Nothing is deleted while decoding."""
        return None


@dataclass(frozen=True)
class ScoredSelection(Method, ABC):
    """Reads the best scored far keys at each decoding step: the author writes `name` and `score`.

    Everything is kept, and a prompt is read in full. A decoding step reads the last `window` tokens
    and the best of those before them, `budget` tokens in all. The first `sinks` of the text are
    among them.

    Keys are scored as they are stored, so nothing may move them later (`frozen_positions`).
    """

    question: ClassVar[str] = Question.SELECTION
    paper: ClassVar[Papers] = None
    decoding_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True

    budget: Budget = option(
        Budget(1024), "tokens a decoding step reads in all, window and sinks included", bytes=False
    )
    window: int = option(64, "newest tokens, always read", low=1)
    sinks: int = option(4, "first tokens, always read", low=0)

    @abstractmethod
    def score(self, queries: Queries, far: KVStore) -> Tensor:
        """What each far entry is worth to a decoding step's query; the highest are read.

        Args:
            queries: one query; `queries.far` `[heads, 1, head_dim]` is rotated as it reaches far
                keys.
            far: the entries before the window, n of them. `far_keys(far)` gives their keys
                `[kv_heads, n, head_dim]`.

        Returns:
            Scores of any floating type: `[n]` for one choice of all heads, `[kv_heads, n]` or
            `[heads, n]` for a choice of each.
        """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.name, self.budget, self.window, self.sinks + 1, self.window)

    @classmethod
    def example(cls) -> ScoredSelection:
        return cls(budget=Budget(24), window=8, sinks=2)

    @classmethod
    def identity(cls, length: int) -> Method | None:
        """A budget beyond the whole text, the overhang of the window included.

        Args:
            length: tokens of the text.
        """
        return cls(budget=Budget(length + 128))

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        """Raises Refused where the recipe's window leaves the budget nothing to choose.

        Args:
            model: the adapted model the recipe runs on.
            length: tokens of the prompt.
            placement: the whole recipe's, whose window another method may have given.
        """
        check_window(self.name, self.budget, 0, self.sinks + 1, placement)

    def placement(self, model: AdaptedModel) -> Placement:
        return Placement(window=self.window, anchored=True)

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return ScoredKeys(self, layer)


class ScoredKeys:
    """The selector of one layer that a `ScoredSelection` scores. It holds no index."""

    query_block: int | None = None
    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: ScoredSelection, layer: LayerFacts) -> None:
        self.method = method
        self.layer = layer

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        """There is no index to extend."""

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        """The best scored entries, as many as the budget leaves beside the window."""
        method, last, count = self.method, queries.span[1], len(far)
        top = chosen_tokens(method.budget, last + 1 - queries.boundary, method.sinks + 1, last)
        if count <= top:
            return None
        scores = method.score(queries, far)
        heads = (self.layer.num_kv_heads, self.layer.num_heads)
        allowed = [torch.Size([count]), *(torch.Size([each, count]) for each in heads)]
        _check_scores(f"{method.name}.score", scores, allowed)
        scores = scores.float().clone()
        scores[..., : method.sinks] = torch.inf
        return SelectedKeys(scores.topk(top, -1).indices.sort(-1).values)

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        """Every query plans for itself."""
        return None

    def tensors(self) -> list[Tensor | None]:
        """Nothing is held."""
        return []


@dataclass(frozen=True)
class ChainDrafter(Method, ABC):
    """Guesses one chain from the text alone: the author writes `name` and `draft`.

    It keeps nothing between the steps. A drafter that does is a `Drafter` with a `Method` that
    starts it, since its state is that of one sequence. How often guesses come true is learned for
    each of the chain's first levels.
    """

    question: ClassVar[str] = Question.DRAFTING
    paper: ClassVar[Papers] = None
    lossless: ClassVar[bool] = True

    @abstractmethod
    def draft(self, tokens: Seq[int], limit: int) -> Seq[int]:
        """The tokens that are expected next.

        Args:
            tokens: ids of prompt and output so far, to be read. Slices are copies.
            limit: most tokens that are of use; what is beyond it is cut off.

        Returns:
            Token ids, likeliest continuation first to last; empty to guess nothing.
        """

    def start_drafter(self, model: AdaptedModel) -> Drafter:
        return Chain(self)


class Chain(Drafter):
    """Adds to a tree what a `ChainDrafter` drafts."""

    def __init__(self, method: ChainDrafter) -> None:
        self.name = method.name
        self.method = method

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        parent = 0
        for depth, token in enumerate(self.method.draft(tokens, limit)[:limit]):
            parent = tree.add(parent, token, self.name, min(depth, CHAIN_BUCKETS - 1))


def _check_scores(what: str, scores: Tensor, allowed: Seq[torch.Size]) -> None:
    """Raises LengthwiseError where scores have none of the shapes that are allowed."""
    if scores.shape not in allowed:
        shapes = " or ".join(str(list(shape)) for shape in dict.fromkeys(allowed))
        raise LengthwiseError(f"{what} gave shape {list(scores.shape)}, and {shapes} is due")


__all__ = ["ChainDrafter", "ScoredRetention", "ScoredSelection"]
