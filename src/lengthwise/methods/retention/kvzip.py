"""KVzip: keep what the model needs to repeat its context from its own cache.

Kim et al., "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction", NeurIPS 2025,
arXiv:2505.23416.

Most retentions keep what the present question looks at. To answer any later question, a cache has
to hold the whole context. So the model is asked to repeat it, a chunk at a time, with the chunk
itself given as the answer. What receives much attention then is kept. For the entries C of a chunk,

    input    = "Repeat the previous context exactly." + end of the turn + the chunk
    score[j] = max over the input's queries i and the query heads h of a group of p_h[i, j], j in C
    p        = softmax over the first tokens, C and the input itself
    kept     = the first tokens + the best scored of all layers and heads together

Inputs of later chunks name the last 8 tokens before the chunk. Each of them is read behind the
prompt, over the full cache, and forgotten. That costs two to three times what reading the prompt
did, all of it before the first token. One threshold serves all layers and heads (`compete=all`,
the authors' `pair`). With `compete=head` every head keeps equally many (their `pair-uniform`), with
`compete=layer` every layer.

Ours: scores are float32, not of the model's dtype. The authors never evict a system prompt of fixed
text and what is asked after the context; here these are `sinks` and `recent`. A budget pays for
those and for the index of each head, too. A share is never fewer tokens than what always stays and
`floor`. The end of the turn is that of the model's chat template, and "Answer:" where it has none.
The variant of heads that keep everything or nothing whatever the context is not here.

Defaults are those of the released code: 30% of the prompt, chunks of 2,000 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.attention.scores import column_maxima
from lengthwise.engine.kernels.part import Part
from lengthwise.engine.kv_cache.by_head import keep_by_head
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, Phase, ReadAside
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Method, Paper, Question, option
from lengthwise.methods.retention.counting import (
    SIDE_BYTES,
    floor_option,
    full_layers,
    layer_tokens,
    needs_full_layers,
    plain_bytes,
    prompt_entries,
    require_budget,
)
from lengthwise.models.limits import position_limit
from lengthwise.tokenization.templates import around_message

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.placement import Placement
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts

FIRST = "\n\nRepeat the previous context exactly."
LATER = "\n\nRepeat the part of the previous context exactly, starting with "
# What ends the request where a model has no chat template.
ANSWER = "\n\nAnswer: "
# Tokens before a chunk that the request for it names.
NAMED = 8


@dataclass(frozen=True)
class KVzip(Method):
    """Keeps what the model looks at while it repeats its prompt."""

    name: ClassVar[str] = "kvzip"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction",
        "Kim et al.",
        2025,
        arxiv="2505.23416",
        venue="NeurIPS",
        code="https://github.com/snu-mllab/KVzip",
    )
    ordinary_only: ClassVar[bool] = True

    budget: Budget = option(Budget(30, "%"), "what a layer keeps of the prompt, on average")
    compete: str = option("all", "which entries share one budget", choices=("all", "layer", "head"))
    chunk: int = option(2000, "tokens that are repeated at once", low=1)
    instruct: bool = option(True, "ask for the repetition in words")
    sinks: int = option(4, "first tokens that are always kept", low=1)
    recent: int = option(0, "last tokens of the prompt that are always kept", low=0)
    floor: int = floor_option()

    @classmethod
    def example(cls) -> KVzip:
        return cls(budget=Budget(50, "%"), chunk=64, instruct=False, sinks=2, floor=8)

    @classmethod
    def identity(cls, length: int) -> KVzip:
        return cls(budget=Budget(length), instruct=False, sinks=1)

    def check(self, model: AdaptedModel) -> None:
        needs_full_layers(self.name, model)
        always = self.sinks + self.recent
        require_budget(
            f"kvzip(budget={self.budget}, sinks={self.sinks}, recent={self.recent}): sinks and "
            "recent tokens alone are",
            self.budget, always, f"use a budget of at least {always + 1}",
        )  # fmt: skip
        if self.instruct and model.tokenizer is None:
            raise Refused(
                "kvzip asks for the repetition in words, and this model came without a tokenizer",
                "load it with lengthwise.load, or give kvzip(instruct=false)",
            )

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        if self.tokens(model, length) is None:
            return
        limit = position_limit(model)
        again = min(self.chunk, length) + len(Request(self, model).words(1))
        if limit is not None and length + again > limit:
            raise Refused(
                f"kvzip reads {again:,} tokens again behind the {length:,} of the prompt, and "
                f"{model.family} has learned positions for {limit:,}",
                "give kvzip a smaller chunk, or a shorter prompt",
            )

    def tokens(self, model: AdaptedModel, length: int) -> int | None:
        """Plain tokens whose bytes a layer may hold of a prompt, on average.

        Args:
            model: that read it.
            length: its tokens.

        Returns:
            The number; None where the prompt is within it, and is left whole.

        Raises:
            Refused: where it does not pay for what is always kept.
        """
        always = self.sinks + self.recent
        allowed = layer_tokens(self.budget, model, length, always + self.floor)
        for layer in full_layers(model):
            count = prompt_entries(layer, model.dtype, length, allowed)
            if count is None:
                return None
            if count < always:
                raise Refused(
                    f"kvzip: a budget of {allowed} tokens does not pay for the {always} that are "
                    "always kept",
                    "give a larger budget, or fewer sinks and recent tokens",
                )
        return allowed

    def start_retention(self, model: AdaptedModel) -> Reconstruction:
        return Reconstruction(self)


class Request:
    """The words that ask for a chunk, as token ids."""

    def __init__(self, method: KVzip, model: AdaptedModel) -> None:
        self._first: list[int] = []
        self._later: list[int] = []
        self._end: list[int] = []
        tokenizer = model.tokenizer
        if not method.instruct or tokenizer is None:
            return
        behind = around_message(tokenizer)[1] or ANSWER
        self._first, self._later, self._end = (
            list(tokenizer.encode(text, add_special_tokens=False))
            for text in (FIRST, LATER, behind)
        )

    def words(self, start: int, before: list[int] | None = None) -> list[int]:
        """What is said before a chunk.

        Args:
            start: place of its first token among those that are repeated.
            before: the tokens before it.
        """
        if not self._end:
            return []
        if not start:
            return [*self._first, *self._end]
        named = [0] * NAMED if before is None else before[-NAMED:]
        return [*self._later, *named, *self._end]


class Reconstruction:
    """The retention of one sequence: it asks the model to repeat the prompt, and keeps what helped.

    keep: by layer, what stays, bool `[kv_heads, entries]`; gone once that was done.
    """

    window = 0
    wants_attention_mass = False
    wants_token_nll = False

    def __init__(self, method: KVzip) -> None:
        self.method = method
        self.keep: dict[int, Tensor] = {}

    def ask_model(self, sequence: CacheView, read: ReadAside) -> None:
        """Scores all entries, and decides for all layers at once."""
        method, model = self.method, sequence.model
        allowed = method.tokens(model, len(sequence))
        if allowed is None:
            return
        layers = full_layers(model)
        scores = self.scores(layers, sequence, read)
        for score in scores.values():
            score[:, : method.sinks] = torch.inf
            score[:, score.shape[1] - method.recent :] = torch.inf
        costs = {x.index: plain_bytes(x, model.dtype) for x in layers}
        heads = {x.index: x.num_kv_heads for x in layers}
        each = {i: costs[i] // heads[i] + SIDE_BYTES for i in costs}
        budgets = {i: allowed * costs[i] for i in costs}
        self.keep = chosen(scores, each, budgets, method.compete)

    def scores(
        self, layers: list[LayerFacts], sequence: CacheView, read: ReadAside
    ) -> dict[int, Tensor]:
        """What each entry is worth, by layer.

        Args:
            layers: those whose entries are scored.
            sequence: what was read.
            read: reads a chunk again.

        Returns:
            float32 `[kv_heads, entries]` by layer; the first tokens, which stay, get 0.
        """
        method, tokens = self.method, list(sequence.tokens)
        request = Request(method, sequence.model)
        found = {x.index: torch.zeros(x.num_kv_heads, len(tokens), device=x.device) for x in layers}
        first = min(method.sinks, len(tokens))
        for start in range(first, len(tokens), method.chunk):
            stop = min(start + method.chunk, len(tokens))

            def watch(
                layer: LayerFacts, query: Tensor, held: Tensor, new: Tensor,
                start: int = start, stop: int = stop,
            ) -> None:  # fmt: skip
                best = repeated(layer, query, held[:, :first], held[:, start:stop], new)
                found[layer.index][:, start:stop] = best

            words = request.words(start - first, tokens[:start])
            read([*words, *tokens[start:stop]], watch)
        return found

    def retain(self, group: HeadGroup, update: CacheUpdate) -> list[HeadGroup] | None:
        """Drops what was not chosen, at the end of the prompt."""
        if update.phase is not Phase.PREFILL or update.layer.index not in self.keep:
            return None
        keep = self.keep.pop(update.layer.index)
        return keep_by_head(group, [mine.nonzero()[:, 0] for mine in keep])

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """Nothing is deleted while decoding."""
        return None


def repeated(layer: LayerFacts, query: Tensor, first: Tensor, chunk: Tensor, new: Tensor) -> Tensor:
    """The most attention that each entry of a chunk gets while the chunk is repeated.

    Args:
        layer: facts of the layer.
        query: of the request and of the chunk said again, `[heads, n, head_dim]`.
        first: keys of the prompt's first tokens, `[kv_heads, sinks, head_dim]`.
        chunk: keys of the chunk in the prompt, `[kv_heads, entries, head_dim]`.
        new: keys of the request and of the chunk said again, `[kv_heads, n, head_dim]`.

    Returns:
        float32 `[kv_heads, entries]`.
    """
    parts = [Part(query, first, first), Part(query, chunk, chunk),
             Part(query, new, new, causal=True)]  # fmt: skip
    most = column_maxima(parts, 1, layer.scaling, layer.softcap, layer.sinks)
    found: Tensor = most.unflatten(0, (layer.num_kv_heads, -1)).amax(1)
    return found


def chosen(
    scores: Mapping[int, Tensor], each: Mapping[int, int], budgets: Mapping[int, int], compete: str
) -> dict[int, Tensor]:
    """What every layer keeps.

    Args:
        scores: by layer, `[kv_heads, entries]`; the highest stay.
        each: by layer, bytes of an entry of one head.
        budgets: by layer, bytes that pay for its entries.
        compete: "all", "layer" or "head": which entries share one budget.

    Returns:
        By layer, bool `[kv_heads, entries]`.
    """
    if compete == "all":
        flat = torch.cat([score.flatten().cpu() for score in scores.values()])
        costs = torch.cat([torch.full((x.numel(),), each[i]) for i, x in scores.items()])
        kept = best(flat, costs, sum(budgets.values()))
        parts = kept.split([score.numel() for score in scores.values()])
        return {i: part.view_as(scores[i]) for i, part in zip(scores, parts, strict=True)}
    found = {}
    for i, score in scores.items():
        pools = score.flatten()[None] if compete == "layer" else score
        budget = budgets[i] // len(pools)
        kept = torch.stack([best(x, torch.full_like(x, each[i]).long(), budget) for x in pools])
        found[i] = kept.view_as(score)
    return found


def best(scores: Tensor, costs: Tensor, budget: int) -> Tensor:
    """Which entries a budget pays for, taken from the best on.

    Args:
        scores: `[n]`.
        costs: int64 `[n]`, bytes of each.
        budget: bytes.

    Returns:
        bool `[n]`.
    """
    order = scores.sort(descending=True, stable=True).indices
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    kept[order[costs[order].cumsum(0) <= budget]] = True
    return kept


__all__ = ["KVzip", "Reconstruction", "best", "chosen", "repeated"]
