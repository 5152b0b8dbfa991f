"""InfLLM: far tokens in blocks, of which each block of queries reads the best few.

Xiao et al., "InfLLM: Unveiling the Intrinsic Capacity of LLMs for Understanding Extremely Long
Sequences with Training-Free Memory", 2024, arXiv:2402.04617.

Tokens that leave a local window are cut into blocks. Each block is represented by the few keys that
received most attention while they were local. A block of queries reads the initial tokens, the
window, and the blocks whose representatives score best. All far tokens stand at one constant
distance.

    r_k    = probability received by key k, summed over the queries that saw it as local
    rep_B  = mean of the `representatives` keys of B with the largest r
    score  = sum over heads of q . rep_B,  q = mean over the block of R(n_local - 1) q~
    far logit of a pair = R(n_local - 1) q~ . k~   (k~ un-rotated)

Tokens that have left the window and do not fill a block yet are always read.

Differences: r is summed over the query heads of a key head, and there is one representative a key
head. The paper repeats keys and keeps one a query head. Scores are still summed over all query
heads. Everything stays on the device unless `offload` says otherwise. With it, blocks live in CPU
memory or in a file, and the 32 used last on the device too, as in the authors' code. Finding r
takes the probabilities of the window a second time. So only every `observe`-th query of a prompt
counts (1 is the paper's). Defaults are scaled from the paper's window of 4,096 tokens to models
trained at a few thousand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.offload import Offload
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.methods.base import Budget, Needs, Paper, Question, needs_rope, option
from lengthwise.methods.selection._shared.block_memory import BlockMemory, BlockMethod
from lengthwise.methods.selection.reading import (
    by_key_head,
    check_offload,
    chosen_tokens,
    offload_option,
)
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class InfLLM(BlockMethod):
    """Block memory beyond a window; `query_block` queries look up together (decoding: one)."""

    name: ClassVar[str] = "infllm"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "InfLLM: Unveiling the Intrinsic Capacity of LLMs for Understanding Extremely Long "
        "Sequences with Training-Free Memory",
        "Xiao et al.",
        2024,
        arxiv="2402.04617",
        code="https://github.com/thunlp/InfLLM",
    )
    chunking_exact: ClassVar[bool] = False
    decoding_exact: ClassVar[bool] = False
    raw_keys: ClassVar[bool] = True

    budget: Budget = option(
        Budget(2048),
        "tokens a query reads in all, window and init included; a prompt's also those that left "
        "the window since its block of queries began, fewer than query_block",
        bytes=False,
    )
    window: int = option(1024, "local tokens, read at their own positions (n_local)", low=1)
    init: int = option(64, "first tokens, always read", low=0)
    block: int = option(64, "tokens of a memory block", low=1)
    representatives: int = option(4, "keys whose mean stands for a block", low=1)
    query_block: int = option(512, "queries of a prefill that look up together", low=1)
    observe: int = option(8, "every how many-th query of a prompt counts towards r", low=1)
    offload: str = offload_option()
    cached: int = option(
        32,
        "far blocks, the last used, that stay on the device anyway",
        low=1,
        needs=Needs("offload=cpu or disk", lambda method: method.offload != "none"),
    )

    @classmethod
    def example(cls) -> InfLLM:
        return cls(budget=Budget(28), window=8, init=4, block=4, representatives=2, query_block=8)

    @classmethod
    def identity(cls, length: int) -> InfLLM:
        return cls(budget=Budget(length + 512), window=length)

    def check(self, model: AdaptedModel) -> None:
        needs_rope(self, model)
        check_offload(self, self.offload, model)

    def placement(self, model: AdaptedModel) -> Placement:
        away = Offload(self.offload, self.init, self.block, self.cached)
        offload = None if self.offload == "none" else away
        return replace(super().placement(model), offload=offload)

    def start_selector(self, layer: LayerFacts) -> Selector:
        return _Memory(self)


class _Memory(BlockMemory):
    """The block index of one layer, and what a block of queries reads of it."""

    def __init__(self, method: InfLLM) -> None:
        super().__init__(method.init, method.block, method.representatives)
        self.method = method
        self.query_block: int | None = method.query_block
        self.wants_attention_mass = method.observe

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        method = self.method
        if self.index is None:
            return None
        # Counted for the first query of a block: later ones also read what leaves the window.
        first = queries.span[0]
        always = first + 1 - queries.boundary + self.rest(far)
        top = chosen_tokens(method.budget, always, method.block, first) // method.block
        if self.index.shape[1] <= top:
            return None
        # Summing q . rep over the heads of a group is the product with the group's summed query.
        query = queries.far.mean(1, keepdim=True)
        voter = by_key_head(query, self.index.shape[0]).sum(1)
        scores = torch.einsum("kd,kbd->b", voter.float(), self.index.float())
        return SelectedKeys(self.ids(scores.topk(top).indices.sort().values, far))

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        return None
