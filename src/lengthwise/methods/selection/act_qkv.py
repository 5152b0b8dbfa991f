"""ActQKV: unusual queries of a block stand for it, and layers retrieve by their density.

Xiao et al., "Activation-aware Probe-Query: Effective Key-Value Retrieval for Long-Context LLMs
Inference", 2025, arXiv:2502.13542.

Window, first tokens and blocks of far tokens are those of InfLLM, and so is the constant distance
at which far tokens are read. A block of queries looks up with a weighted mean of them, in which
queries count by how far they deviate from the others (activation bias). While decoding, layers with
a flat distribution over blocks retrieve more of them.

    b_tc  = (h_tc - mean_c)^2 / (var_c + mean(var) / 100),  h_t: query t of all heads, one vector
    w_t   = mean_c b_tc,  normalised to sum 1;  probe = sum_t w_t h_t
    score = cosine of the probe and the block's representative, over all heads together
    H_l   = entropy of softmax(score) / log(blocks), mean over the last `window` queries of a prompt
    K_l   = R_l H_l / sum_{j >= l} H_j,  R_l: what layers below l left of the budget of all layers;
            at least `least` and at most `most` of the mean

Defaults are those of the released configuration for Llama 3: blocks of 32 tokens, 64 first ones,
window 512, 4 representatives, 46 blocks a layer (budget 2,048), blocks of 256 queries, 32/46 and 2
times the mean as bounds.

Differences: mean and variance are those of the block of queries. The authors' code has one running
mean and variance for all layers and texts. It also goes on with the densities of the last 100
lookups while it writes; here K_l is settled when the prompt is complete, so that a draft that is
rejected leaves no trace. Their second lookup, by the question of a prompt, is left out: a prompt
does not say where its question stands. There is one representative a key head, as in our infllm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.methods.base import Budget, Needs, Paper, Question, needs_rope, option
from lengthwise.methods.selection._shared.block_memory import BlockMemory, BlockMethod
from lengthwise.methods.selection.reading import chosen_tokens
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

PROBES = ("activation", "mean")
SCORES = ("cosine", "dot")
CUT = Needs("cutoff=true", lambda method: method.cutoff)
# The prompt's last queries whose densities settle how many blocks each layer retrieves.
OBSERVED = 100


@dataclass(frozen=True)
class ActQKV(BlockMethod):
    """Block memory looked up by deviating queries, with budgets of layers by their density."""

    name: ClassVar[str] = "act_qkv"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "Activation-aware Probe-Query: Effective Key-Value Retrieval for Long-Context LLMs "
        "Inference",
        "Xiao et al.",
        2025,
        arxiv="2502.13542",
        code="https://github.com/MrXiaoaa/ActQKV",
    )
    chunking_exact: ClassVar[bool] = False
    decoding_exact: ClassVar[bool] = False
    raw_keys: ClassVar[bool] = True

    budget: Budget = option(
        Budget(2048),
        "tokens a query reads in all, mean over the layers, window and init included; a prompt's "
        "also those that left the window since its block of queries began",
        bytes=False,
    )
    window: int = option(512, "local tokens, read at their own positions (n_local)", low=1)
    init: int = option(64, "first tokens, always read", low=0)
    block: int = option(32, "tokens of a memory block", low=1)
    representatives: int = option(4, "keys whose mean stands for a block", low=1)
    query_block: int = option(256, "queries of a prefill that look up together", low=1)
    observe: int = option(8, "every how many-th query of a prompt finds representatives", low=1)
    probe: str = option(
        "activation", "queries count by activation bias, or by mean: alike", None, None, PROBES
    )
    score: str = option("cosine", "of probe and block: cosine, or dot product", None, None, SCORES)
    cutoff: bool = option(True, "layers retrieve by their density while decoding")
    least: float = option(0.7, "least that a layer retrieves, of the mean", 0, 1, needs=CUT)
    most: float = option(2.0, "most that a layer retrieves, of the mean", 1, needs=CUT)

    @classmethod
    def example(cls) -> ActQKV:
        return cls(budget=Budget(28), window=8, init=4, block=4, representatives=2, query_block=8)

    @classmethod
    def identity(cls, length: int) -> ActQKV:
        return cls(budget=Budget(length + 512), window=length)

    def check(self, model: AdaptedModel) -> None:
        needs_rope(self, model)

    def start_selector(self, layer: LayerFacts) -> Selector:
        return DenseMemory(self, layer) if self.cutoff else ProbedMemory(self, layer)


def probe_of(queries: Tensor, by: str) -> Tensor:
    """What stands for a block of queries.

    Args:
        queries: `[heads, n, head_dim]`.
        by: one of PROBES.

    Returns:
        float32 `[heads, head_dim]`.
    """
    wide = queries.float()
    if by == "mean" or queries.shape[1] == 1:
        return wide.mean(1)
    return torch.einsum("hnd,n->hd", wide, activation_weights(wide))


def activation_weights(queries: Tensor) -> Tensor:
    """What each query counts for, by its activation bias; they sum to 1.

    Args:
        queries: float32 `[heads, n, head_dim]`, more than one.

    Returns:
        float32 `[n]`; all alike where the queries are.
    """
    variance, mean = torch.var_mean(queries, 1, keepdim=True)
    spread = variance + variance.mean() / 100
    bias = ((queries - mean).square() / spread.clamp_min(1e-20)).mean((0, 2))
    total = bias.sum()
    alike = torch.full_like(bias, 1 / len(bias))
    return torch.where(total > 0, bias / total.clamp_min(1e-20), alike)


def block_scores(probe: Tensor, index: Tensor, by: str, scaling: float) -> Tensor:
    """What blocks are worth to probes.

    Args:
        probe: float32 `[n, heads, head_dim]`.
        index: representatives `[kv_heads, blocks, head_dim]`.
        by: one of SCORES.
        scaling: of the layer's logits.

    Returns:
        float32 `[n, blocks]`: cosines, or logits averaged over heads.
    """
    kv_heads, heads = len(index), probe.shape[1]
    wide = index.float()
    # All heads of a group meet the same representative, so their queries may be summed first.
    voters = probe.unflatten(1, (kv_heads, -1)).sum(2).transpose(0, 1)
    products = torch.bmm(voters, wide.mT).sum(0)
    if by == "dot":
        return products * (scaling / heads)
    lengths = (wide.square().sum((0, 2)) * (heads // kv_heads)).sqrt()
    own = probe.flatten(1).square().sum(1, keepdim=True).sqrt()
    return products / (own * lengths).clamp_min(1e-20)


def density(scores: Tensor) -> Tensor:
    """How flat the softmax of scores `[n, blocks]` is: float32 `[n]`, 1 where all are alike."""
    blocks = scores.shape[1]
    if blocks == 1:
        return torch.ones(len(scores), device=scores.device)
    found: Tensor = torch.special.entr(scores.softmax(-1)).sum(-1) / math.log(blocks)
    return found


def shares(densities: Seq[float], least: float, most: float) -> list[float]:
    """What layers retrieve, as shares of the mean.

    Each layer takes its part of what is left, by its density and those of the layers above. So
    what the bounds add or take is settled by later layers.

    Args:
        densities: of the layers, in their order.
        least: of a layer.
        most: of a layer.
    """
    found, left = [], float(len(densities))
    for at, own in enumerate(densities):
        total = sum(densities[at:])
        part = left * own / total if total > 0 else left / (len(densities) - at)
        found.append(min(max(part, least), most))
        left -= found[-1]
    return found


class ProbedMemory(BlockMemory):
    """The block index of one layer, looked up by a probe."""

    def __init__(self, method: ActQKV, layer: LayerFacts) -> None:
        super().__init__(method.init, method.block, method.representatives)
        self.method = method
        self.layer = layer
        self.query_block: int | None = method.query_block
        self.wants_attention_mass = method.observe
        self.share = 1.0

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        """Every query plans for itself while decoding."""
        return None

    def scores(self, probes: Tensor) -> Tensor:
        """See `block_scores`; probes float32 `[n, heads, head_dim]`."""
        assert self.index is not None
        return block_scores(probes, self.index, self.method.score, self.layer.scaling)

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        method, first = self.method, queries.span[0]
        if self.index is None:
            return None
        # Counted for the first query of a block: later ones also read what leaves the window.
        always = first + 1 - queries.boundary + self.rest(far)
        top = chosen_tokens(method.budget, always, method.block, first) / method.block
        count = int(top) if self.share == 1.0 else max(1, round(top * self.share))
        if self.index.shape[1] <= count:
            return None
        scores = self.scores(probe_of(queries.far, method.probe)[None])[0]
        return SelectedKeys(self.ids(scores.topk(count).indices.sort().values, far))


class DenseMemory(ProbedMemory):
    """The same, whose share of the blocks is settled with the other layers' by their densities.

    share: of the mean, 1 until the prompt is complete. density: what it has shown then.
    """

    window = OBSERVED

    def __init__(self, method: ActQKV, layer: LayerFacts) -> None:
        super().__init__(method, layer)
        self.density = 1.0

    def index_prompt(self, queries: Tensor, far: KVStore) -> None:
        """Notes how flat the prompt's last queries find the blocks."""
        if self.index is not None:
            probes = queries.float().transpose(0, 1)
            self.density = float(density(self.scores(probes)).mean())

    def agree(self, layers: Seq[DenseMemory]) -> None:
        """What each layer retrieves from now on."""
        method = self.method
        found = shares([each.density for each in layers], method.least, method.most)
        for each, share in zip(layers, found, strict=True):
            each.share = share


__all__ = ["ActQKV", "DenseMemory", "ProbedMemory"]
