"""MInference: every head reads a prompt along lines whose kind is found offline.

Jiang et al., "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse
Attention", NeurIPS 2024, arXiv:2407.02490.

Reading a long prompt is mostly attention, and nearly all of its mass lies on few lines. Which kind
of lines a head has is a property of the model. So it is searched once. Where the lines of a text
are is estimated from its last queries. Only a prompt is read so: decoding reads everything.

    A = softmax(Q_[-64:] K^T / sqrt(d))
    vertical:  columns with the largest sums of A, the first 30 in any case
    slash:     distances i - j with the largest sums of A, the nearest 100 in any case
    A-shape:   the first columns and the nearest distances
    blocks:    for 64 queries the best key blocks of 64 by mean(Q_b) . mean(K_b)

The search reads one sample and keeps for every head the pattern that holds most of its probability.
The sample and the space are those of the paper and its code. The sample is pairs of random names,
of which some are asked for. In the space are (columns, distances) of (30, 800), (100, 750),
(500, 700) and (3500, 100), an A-shape of (100, 800), and blocks, an eighth of them. Without a
search all heads have one pattern. 1,000 columns and 6,096 distances are the code's for a model that
it does not know.

Differences. A prompt is read in chunks, 1,024 tokens on a CPU, and each estimates its lines from
its own last queries. All is done at the grain of blocks of 64 queries, as the authors' kernels do
it for distances: what one query of a block reads, all of it do. The block itself is read in full.
The search scores what is really run, at one block in eight, from token 2,500 on. It notes how many
keys a pattern reads, too. With `slack` above 0 a head takes the pattern that reads fewest keys
among those within so much of the best. Scattered distances are dear here: each costs a block of 127
keys. So `space=wide` adds patterns without them: (columns, distances) of (300, 100), (1000, 100)
and (2000, 100), and an A-shape of (100, 300). The authors' search picks blocks or the A-shape and
then runs vertical-slash in their place; here the pattern that was picked runs.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.kernels import blocks
from lengthwise.engine.kernels.blocks import Blocks
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.selection.pattern_search import SPACES, chosen_patterns, search_once
from lengthwise.methods.selection.patterns import KINDS, Estimate, Grid, Pattern, chosen_keys
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

SEARCHED = "searched"
_LINES = Needs("pattern=vertical_slash or a_shape", lambda m: m.pattern in KINDS[:2])

_BLOCKS = Needs("pattern=searched or block_sparse", lambda m: m.pattern in (SEARCHED, KINDS[2]))
_SEARCH = Needs("pattern=searched", lambda m: m.pattern == SEARCHED)


@dataclass(frozen=True)
class MInference(Method):
    """Prompts are read along the lines of a pattern per head; decoding reads everything."""

    name: ClassVar[str] = "minference"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse "
        "Attention",
        "Jiang et al.",
        2024,
        arxiv="2407.02490",
        venue="NeurIPS",
        code="https://github.com/microsoft/MInference",
    )
    best_known: ClassVar[str] = "minference(space=wide, slack=0.05, block=256)"
    chunking_exact: ClassVar[bool] = False
    decoding_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True
    ordinary_only: ClassVar[bool] = True
    prompts_only: ClassVar[bool] = True

    pattern: str = option(
        SEARCHED, "pattern of all heads, or one searched for each", choices=(SEARCHED, *KINDS)
    )
    columns: int = option(1000, "columns that all queries read", low=1, needs=_LINES)
    distances: int = option(6096, "distances at which every query reads", low=1, needs=_LINES)
    blocks: int = option(
        100, "blocks of keys that a block of queries reads, of block_sparse", low=1, needs=_BLOCKS
    )
    space: str = option(
        "paper", "patterns that were searched: the paper's, or more", None, None, tuple(SPACES),
        needs=_SEARCH,
    )  # fmt: skip
    slack: float = option(
        0.0, "mass that a searched pattern may lose to read less", low=0.0, high=1.0, needs=_SEARCH
    )
    last: int = option(64, "last queries of a chunk that estimate its lines", low=1)
    first: int = option(30, "first columns, always read", low=0)
    nearest: int = option(100, "nearest distances, always read", low=0)
    block: int = option(64, "queries that read alike", low=1)
    dense: int = option(0, "first layers that read everything", low=0)

    @classmethod
    def example(cls) -> MInference:
        return cls(pattern="vertical_slash", columns=4, distances=4, last=4, first=1, nearest=2,
                   block=4)  # fmt: skip

    @classmethod
    def identity(cls, length: int) -> MInference:
        return cls(pattern="vertical_slash", columns=length + 1024)

    def check(self, model: AdaptedModel) -> None:
        if self.pattern == SEARCHED:
            search_once(model)

    def start_selector(self, layer: LayerFacts) -> LineReader | None:
        if layer.index < self.dense:
            return None
        return LineReader(self, layer, self._patterns(layer))

    def _patterns(self, layer: LayerFacts) -> list[Pattern]:
        """Those of all query heads of a layer."""
        if self.pattern == SEARCHED:
            return chosen_patterns(layer, self.slack, self.blocks, self.space)
        own = Pattern(self.pattern, self.columns, self.distances, self.blocks)
        return [own] * layer.num_heads


class LineReader:
    """Reads the prompt in one layer of one sequence: none but the settings.

    copied: see `PromptReader`.
    """

    query_block: int | None = None
    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: MInference, layer: LayerFacts, patterns: Seq[Pattern]) -> None:
        self.method, self.layer, self.patterns = method, layer, patterns
        self.copied = 0
        self.estimate = Estimate(
            layer.scaling, layer.softcap, method.last, method.first, method.nearest
        )

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        """Nothing: there is no window to leave."""

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        return None

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        return None

    def tensors(self) -> list[Tensor | None]:
        return []

    def read_prompt(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
        asked = self.asked(query, key, value)
        if not asked.start and asked.count == 1:
            return None
        out, self.copied = blocks.attend(asked)
        return out

    def asked(self, query: Tensor, key: Tensor, value: Tensor) -> Blocks:
        """Tokens as `read_prompt` is given them, with what their blocks read."""
        layer, group = self.layer, len(query) // len(key)
        grid = Grid(key.shape[1] - query.shape[1], -(-query.shape[1] // self.method.block),
                    self.method.block)  # fmt: skip

        def chosen(head: int) -> Tensor:
            heads = slice(head * group, (head + 1) * group)
            return chosen_keys(self.patterns[heads], query[heads], key[head], grid, self.estimate)

        return Blocks(query, key, value, grid.size, chosen, layer.scaling, layer.softcap,
                      layer.sinks)  # fmt: skip


__all__ = ["LineReader", "MInference"]
