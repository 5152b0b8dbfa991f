"""Quest: a decoding step reads the pages of keys that could hold a large logit.

Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", ICML 2024,
arXiv:2406.10774.

Everything is kept. Each decoding step reads only some pages of keys, chosen by a bound on their
logits. The bound is made of the smallest and largest value of every channel in the page. Prefill is
full, and so are the first `dense` layers.

    score(page) = sum_c max(q_c min_c, q_c max_c)  >=  max over keys k of the page of q . k
    read: the max(3, budget / page) pages with the largest scores, per query head

Differences: the newest tokens are a window that is always read, instead of a forced last page.
Tokens between the last whole page and the window are read too. Pages are of keys as they are
stored, so nothing may move them later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.methods.base import Budget, Method, Paper, Question, option
from lengthwise.methods.selection.bounds import Bounds, keys_of
from lengthwise.methods.selection.reading import check_budget, check_window, chosen_tokens
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

LEAST_PAGES = 3


@dataclass(frozen=True)
class Quest(Method):
    """Page selection while decoding, per query head; `budget` counts the window too."""

    name: ClassVar[str] = "quest"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference",
        "Tang et al.",
        2024,
        arxiv="2406.10774",
        venue="ICML",
        code="https://github.com/mit-han-lab/Quest",
    )
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True

    budget: Budget = option(
        Budget(1024), "tokens a decoding step reads in all, window included", bytes=False
    )
    window: int = option(64, "newest tokens, always read", low=1)
    page: int = option(16, "tokens of a page", low=1)
    dense: int = option(2, "first layers that read everything", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        always = self.window + self.page - 1
        check_budget(self.name, self.budget, always, LEAST_PAGES * self.page, self.window)

    @classmethod
    def example(cls) -> Quest:
        return cls(budget=Budget(24), window=8, page=4, dense=0)

    @classmethod
    def identity(cls, length: int) -> Quest:
        return cls(budget=Budget(length + 128))

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        least = LEAST_PAGES * self.page
        check_window(self.name, self.budget, self.page - 1, least, placement)

    def placement(self, model: AdaptedModel) -> Placement:
        return Placement(window=self.window, anchored=True)

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return None if layer.index < self.dense else Pages(self)


class Pages(Bounds):
    """The pages of one layer; the last one may still be filling, and is read in any case."""

    query_block: int | None = None
    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: Quest) -> None:
        super().__init__(method.page)
        self.method = method

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        self.add(entries.key)

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        size, last = self.method.page, queries.span[1]
        pages = self.held // size
        always = last + 1 - queries.boundary + self.held - pages * size
        top = chosen_tokens(self.method.budget, always, LEAST_PAGES * size, last) // size
        if pages <= top:
            return None
        scores = self.scores(queries.far[:, -1])[:, :pages]
        best = scores.topk(top, -1).indices.sort(-1).values
        return SelectedKeys(keys_of(best, size, range(pages * size, self.held)))

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        return None
