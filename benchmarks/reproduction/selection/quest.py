"""Quest at two budgets, its pages by their true best key, and the mass that pages hold."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.selection.copying import COPY, LENGTH, masses, mean, recent, rows
from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.engine.plan import FULL, Plan
from lengthwise.methods.base import Method
from lengthwise.methods.selection.quest import Pages, Quest
from lengthwise.methods.selection.reading import by_key_head, far_keys
from lengthwise.models.layer_facts import LayerFacts

PAGES = (8, 16, 64)


class TruePages(Pages):
    """Pages chosen by their true largest logit, which the bound stands for."""

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        self.key = far_keys(far)
        return super().plan(queries, far)

    def scores(self, query: Tensor) -> Tensor:
        size = self.method.page
        key = self.key[:, : self.held // size * size]
        logits = torch.matmul(by_key_head(query[:, None], len(key)), key.mT)
        return logits.reshape(len(query), -1, size).amax(-1)


class TrueQuest(Quest):
    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return None if layer.index < self.dense else TruePages(self)


@check({"what": "", COPY: ".3f"})
def quest(length: int = LENGTH) -> Iterator[Found]:
    """Pages by their bound, beside full attention, a window and pages by what they really hold."""
    plans: dict[str, Plan | Method] = {
        "full attention": FULL,
        "`quest` (1,024 tokens, pages of 16, window 64)": Quest(),
        "`quest(budget=512)`": Quest(budget=512),
        "`quest(budget=512)`, pages by their true largest logit": TrueQuest(budget=512),
        "only the most recent 512 tokens": recent(512),
    }
    for row in rows(plans, length):
        yield {"what": row["what"], COPY: row[COPY]}


@check({"page": "", **{str(page): ".3f" for page in PAGES}})
def pages(length: int = LENGTH) -> Iterator[Found]:
    """MASS by the size of a page, at a budget of 512 tokens."""
    found = {
        str(page): mean(masses(Quest(budget=512, page=page), length)["mass"]) for page in PAGES
    }
    yield {"page": "MASS at 512 tokens", **found}
