"""TokenSelect: single far tokens, chosen by all heads together and read at compacted positions.

Wu et al., "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via
Dynamic Token-Level KV Cache Selection", EMNLP 2025, arXiv:2411.02886.

Far tokens are chosen by query-key products to which each head adds its softmax. They are read at
compacted positions, so that distances never exceed what was trained. A selection is used again
while queries stay similar.

    a_h    = softmax over far tokens of (R(n_local) q_h . k~ / sqrt(d)),  q_h the mean of the block
    chosen = top-k of sum_h a_h  (max-pooled over `pool` neighbours first, if asked)
    positions: initial and chosen tokens 0..m-1 in order, window and queries right after

The window is the last n_local tokens up to the end of a block of queries. So for a block of 512
queries a window of 512 is the block itself, as in the authors' code.

Defaults are those of the released configurations (n_init 128, n_local 512, k 2048, blocks of 512).
Their code leaves the reuse of selections off; the paper reuses them above a cosine of 0.9. `budget`
takes the overhang of the window off what is chosen. `k` chooses that many whatever the overhang.

Differences: the scoring query stands at the constant position n_local, not at n_local + its place
in the block. And a query is not compared with the one before it, but with the first one since the
window last moved (the anchor). The anchor is always a committed token. So a draft that is rejected
leaves no trace, and drafting equals plain decoding. An anchor lives at most 64 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Budget, Method, Paper, Question, needs_rope, option
from lengthwise.methods.selection.reading import (
    by_key_head,
    check_budget,
    chosen_tokens,
    far_keys,
    overhang,
)
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class TokenSelect(Method):
    """Token-level selection; `query_block` queries choose together (decoding: each alone)."""

    name: ClassVar[str] = "token_select"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via "
        "Dynamic Token-Level KV Cache Selection",
        "Wu et al.",
        2025,
        arxiv="2411.02886",
        venue="EMNLP",
        code="https://github.com/pzs19/TokenSelect",
    )
    best_known: ClassVar[str] = "token_select(query_block=128)"
    chunking_exact: ClassVar[bool] = False
    decoding_exact: ClassVar[bool] = False
    raw_keys: ClassVar[bool] = True

    budget: Budget = option(
        Budget(2688), "tokens a query reads in all, window and init included", bytes=False
    )
    k: int | None = option(
        None, "tokens chosen, in place of budget (none: budget less window and init)", low=1
    )
    window: int = option(512, "recent tokens, always read (n_local)", low=1)
    init: int = option(128, "first tokens, always read (n_init)", low=0)
    pool: int = option(1, "neighbours whose best vote a token gets (odd)", low=1)
    reuse: float = option(1.0, "cosine above which a selection is used again; 1: never", 0.0, 1.0)
    query_block: int = option(
        512, "queries of a prefill that choose together, at most window of them", low=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k is None:
            check_budget(self.name, self.budget, self.window + self.init, 1, self.window)
        elif self.budget != type(self).budget:
            raise RecipeError(
                f"{self.name}(budget={self.budget}, k={self.k}): both say how many tokens are "
                "chosen; give one"
            )
        if self.pool % 2 == 0:
            raise RecipeError(
                f"{self.name}(pool={self.pool}): a token stands amid its neighbours, so "
                f"allowed are odd numbers, such as {self.pool + 1}"
            )

    @classmethod
    def example(cls) -> TokenSelect:
        return cls(budget=Budget(20), window=8, init=4, query_block=8)

    @classmethod
    def identity(cls, length: int) -> TokenSelect:
        window = max(1, min(512, length // 2))
        return cls(budget=Budget(length + window), window=window, init=0)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> TokenSelect:
        # Window and first tokens have at most the share of the budget that they have by default.
        tokens = max(1, round(share * length))
        window = max(1, min(self.window, tokens * 4 // 21))
        return replace(
            self, budget=Budget(tokens), k=None, window=window, init=min(self.init, tokens // 21),
            query_block=min(self.query_block, window),
        )  # fmt: skip

    def check(self, model: AdaptedModel) -> None:
        needs_rope(self, model)

    def placement(self, model: AdaptedModel) -> Placement:
        window = self.window

        def constant(index: Tensor) -> Tensor:
            return torch.full_like(index, window)

        return Placement(window=window, anchored=True, far_raw=True, far_query=constant)

    def start_selector(self, layer: LayerFacts) -> Selector:
        return _Votes(self, layer.scaling)


def ranks(votes: Tensor) -> Tensor:
    """int64 `[n]` in the order of float32 votes >= 0 to 12 bits, later ones first among equals.

    In the first layer equal tokens have equal keys, and rounding noise must not choose among them.
    """
    return (votes.view(torch.int32) >> 12).long() << 32 | torch.arange(
        len(votes), device=votes.device
    )


@dataclass(frozen=True)
class _Anchor:
    query: Tensor
    ids: Tensor


class _Votes:
    """anchor: a selection that may be used again."""

    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: TokenSelect, scaling: float) -> None:
        self.method = method
        self.scaling = scaling
        self.query_block: int | None = method.query_block
        self.anchor: _Anchor | None = None

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        self.anchor = None

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        return None

    def tensors(self) -> list[Tensor | None]:
        return [] if self.anchor is None else [self.anchor.query, self.anchor.ids]

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys:
        ids = self._select(queries, far)
        positions = torch.arange(len(ids), device=ids.device)
        return SelectedKeys(ids, None, positions, queries.index - queries.boundary + len(ids))

    def _select(self, queries: Queries, far: KVStore) -> Tensor:
        """Far ids int64 `[m]`, ascending."""
        method, count = self.method, len(far)
        init = min(method.init, count)
        top = method.k or self._left(queries.span[1], queries.boundary)
        if count - init <= top:
            return torch.arange(count, device=queries.far.device)
        query = queries.far.mean(1, keepdim=True)
        if self.anchor is not None and self._similar(query, self.anchor.query):
            return self.anchor.ids
        votes = self._vote(query, far_keys(far)[:, init:])
        chosen = ranks(votes).topk(top).indices.sort().values + init
        ids = torch.cat([torch.arange(init, device=chosen.device), chosen])
        if self.anchor is None and method.reuse < 1:
            self.anchor = _Anchor(query, ids)
        return ids

    def _left(self, last: int, boundary: int) -> int:
        """Tokens that may be chosen beside those that the query `last` reads in any case."""
        method, local = self.method, last + 1 - boundary
        if method.reuse < 1:
            # Later queries read the choice too, when the window overhangs most.
            local = max(local, method.window + overhang(method.window))
        return chosen_tokens(method.budget, local + method.init, 1, last)

    def _vote(self, query: Tensor, key: Tensor) -> Tensor:
        """Soft votes `[n]` of all heads: query `[heads, 1, head_dim]`, key `[kv_heads, n, ...]`."""
        logits = torch.matmul(by_key_head(query, key.shape[0]), key.transpose(1, 2))
        votes = logits.float().mul_(self.scaling).softmax(-1).sum((0, 1))
        if self.method.pool > 1:
            votes = F.max_pool1d(votes[None], self.method.pool, 1, self.method.pool // 2)[0]
        return votes

    def _similar(self, query: Tensor, other: Tensor) -> bool:
        cosine = F.cosine_similarity(query.float().flatten(), other.float().flatten(), dim=0)
        return float(cosine) > self.method.reuse
