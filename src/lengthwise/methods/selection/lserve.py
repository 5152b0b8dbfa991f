"""LServe: half of the heads see first and latest tokens, the others pages that are chosen.

Yang et al., "LServe: Efficient Long-sequence LLM Serving with Unified Sparse Attention", MLSys
2025, arXiv:2502.14866.

The gates of DuoAttention (`methods/gates.py`) say which key heads are streaming heads: these keep
`sinks` + `recent` tokens from the first token on. The other heads keep everything. A decoding step
reads some pages of theirs, as in Quest. But a page is scored by the best of its sub-pages, whose
bounds are tighter, so that pages can be as large as memory likes them. A choice is used again for
the next steps.

    bound(sub)  = sum_c max(q_c min_c, q_c max_c)  >=  max over keys k of the sub-page of q . k
    score(page) = max over its sub-pages of bound(sub)
    read: the max(3, budget / page) pages with the largest scores, per query head

Differences: the authors' streaming heads see 8,192 latest tokens in a prompt and 256 afterwards;
here it is `recent` in both. As in `quest` the newest tokens are a window that is always read,
instead of a forced last page, and tokens between the last whole page and the window are read too. A
choice ends `reuse` steps after the window last moved, or after the choice before it: drafts stop
there, so that what they read hangs on no draft. Keys and values of 8 bits are `lserve + int8`.

Defaults are those of the released command: half of the heads, 128 + 256 tokens, pages of 64 in four
sub-pages, a budget of 4,096 tokens, choices of 4 steps. A text within the budget is read whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_policy import HeadTable
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Budget, Method, Paper, Question, option
from lengthwise.methods.gates import streaming_table
from lengthwise.methods.retention.counting import needs_full_layers
from lengthwise.methods.selection.bounds import Bounds, keys_of
from lengthwise.methods.selection.reading import check_budget, chosen_tokens, reads_all
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

LEAST_PAGES = 3


@dataclass(frozen=True)
class LServe(Method):
    """Streaming heads beside heads whose pages are chosen; `budget` counts their window too."""

    name: ClassVar[str] = "lserve"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "LServe: Efficient Long-sequence LLM Serving with Unified Sparse Attention",
        "Yang et al.",
        2025,
        arxiv="2502.14866",
        venue="MLSys",
        code="https://github.com/mit-han-lab/omniserve",
    )
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True

    budget: Budget = option(
        Budget(4096), "tokens that a query of the other heads reads in all", bytes=False
    )
    heads: float = option(0.5, "share of key heads that keep everything", low=0.0, high=1.0)
    sinks: int = option(128, "first tokens that streaming heads keep", low=0)
    recent: int = option(256, "latest tokens that they keep", low=1)
    window: int = option(64, "newest tokens, always read by the other heads", low=1)
    page: int = option(64, "tokens that are read together", low=1)
    subpage: int = option(16, "tokens that have bounds of their own; it divides a page", low=1)
    reuse: int = option(4, "decoding steps that share a choice, until the window moves", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.page % self.subpage:
            raise RecipeError(
                f"{self.name}(page={self.page}, subpage={self.subpage}): a page is made of whole "
                f"sub-pages; give a subpage that divides {self.page}"
            )
        always = self.window + self.page - 1
        check_budget(self.name, self.budget, always, LEAST_PAGES * self.page, self.window)

    @classmethod
    def example(cls) -> LServe:
        return cls(Budget(24), sinks=2, recent=8, window=8, page=4, subpage=2, reuse=2)

    @classmethod
    def identity(cls, length: int) -> LServe:
        return cls(budget=Budget(length + 512), heads=1.0)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> LServe:
        # Streaming heads read at most half of what the others do, whose pages shrink, too.
        tokens = max(1, round(share * length))
        kept = max(2, min(self.sinks + self.recent, tokens // 2))
        sinks = min(self.sinks, kept // 3)
        others = round((tokens - (1 - self.heads) * kept) / self.heads) if self.heads else tokens
        subpage = max(1, min(self.subpage, others // 32))
        page = subpage * max(1, min(self.page, others // 8) // subpage)
        return replace(
            self, budget=Budget(others), sinks=sinks, recent=kept - sinks, page=page,
            subpage=subpage, window=max(1, min(self.window, others // 8)),
        )  # fmt: skip

    def check(self, model: AdaptedModel) -> None:
        needs_full_layers(self.name, model)
        self.head_table(model)

    def placement(self, model: AdaptedModel) -> Placement:
        return Placement(window=self.window, anchored=True)

    def head_table(self, model: AdaptedModel) -> HeadTable:
        return streaming_table(model, self.heads, self.sinks, self.recent)

    def start_selector(self, layer: LayerFacts) -> Selector:
        return SubPages(self)


class SubPages(Bounds):
    """The sub-pages of the far keys of one layer's retrieval heads.

    chosen: ids of the choice that is used again, for queries before `until`; None is not made yet.
    """

    query_block: int | None = None
    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: LServe) -> None:
        super().__init__(method.subpage)
        self.method = method
        self.chosen: Tensor | None = None
        self.until = 0

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        self.add(entries.key)
        self.until = 0

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        last = queries.span[1]
        if last >= self.until:
            self.until = self._end(last, queries.boundary)
            self.chosen = self._choice(queries)
        return None if self.chosen is None else SelectedKeys(self.chosen)

    def page_scores(self, query: Tensor) -> Tensor:
        """What a key of each whole page can give at most, `[heads, pages]`.

        Args:
            query: `[heads, head_dim]`, as it reaches far keys.
        """
        subs = self.method.page // self.method.subpage
        whole = self.held // self.method.page * subs
        return self.scores(query)[:, :whole].reshape(len(query), -1, subs).amax(-1)

    def _choice(self, queries: Queries) -> Tensor | None:
        """Far ids `[heads, m]`, ascending, for queries before `until`; None is all."""
        method, size = self.method, self.method.page
        pages = self.held // size
        always = self.until - queries.boundary + self.held - pages * size
        top = chosen_tokens(method.budget, always, LEAST_PAGES * size, self.until - 1) // size
        if pages <= top:
            return None
        best = self.page_scores(queries.far[:, -1]).topk(top, -1).indices.sort(-1).values
        return keys_of(best, size, range(pages * size, self.held))

    def _end(self, index: int, boundary: int) -> int:
        """The first query that the choice of query `index` is not for."""
        reuse = self.method.reuse
        return index + reuse - (index - boundary - self.method.window + 1) % reuse

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        method = self.method
        whole = reads_all(method.budget, self.held, length - boundary, method.reuse)
        if method.reuse == 1 or whole:
            return None
        return self._end(length, boundary) - length

    def tensors(self) -> list[Tensor | None]:
        return [*super().tensors(), self.chosen]
