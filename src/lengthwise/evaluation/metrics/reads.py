"""How much a selection really reads: counted where it says what it reads, while tokens are written.

A selector tells for each query which far entries it reads; the window is read too. What a layer
without a selector reads is all of it. A selector whose class cannot be extended is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.engine.plan import Plan
from lengthwise.models.layer_facts import LayerFacts


@dataclass
class Reads:
    """Sums over plans and layers. on: whether plans count now."""

    on: bool = False
    plans: int = 0
    shares: float = 0.0
    selecting: int = 0
    dense: int = 0
    unknown: int = 0

    def add(self, queries: Queries, chosen: SelectedKeys | None) -> None:
        """Counts what a block of queries reads of the text so far."""
        if not self.on:
            return
        seen = queries.span[1] + 1
        near = seen - queries.boundary
        self.plans += 1
        self.shares += 1.0 if chosen is None else min(1.0, (_count(chosen) + near) / seen)

    @property
    def share(self) -> float | None:
        """Mean share of the text that a step reads, over all layers; None where nothing says."""
        layers = self.selecting + self.dense
        if self.unknown or not self.plans or not layers:
            return None
        return (self.selecting * self.shares / self.plans + self.dense) / layers


def counted(plan: Plan) -> tuple[Plan, Reads]:
    """The same plan, whose selectors count what they read; a sequence of it is to be alone."""
    reads = Reads()
    if plan.selector is None:
        return plan, reads
    start = plan.selector

    def selector(layer: LayerFacts) -> Selector | None:
        found = start(layer)
        if found is None:
            reads.dense += 1
            return None
        reads.selecting += 1
        if not _count_in(found, reads):
            reads.unknown += 1
        return found

    return replace(plan, selector=selector), reads


def _count_in(selector: Selector, reads: Reads) -> bool:
    """Has a selector count, by a class of its own: its copies count too."""
    own: Any = type(selector)
    plan: Callable[..., SelectedKeys | None] = own.plan

    def counting(self: Selector, queries: Queries, far: KVStore) -> SelectedKeys | None:
        found = plan(self, queries, far)
        reads.add(queries, found)
        return found

    try:
        # object's way, since a frozen dataclass refuses to have anything set.
        object.__setattr__(selector, "__class__", type(own.__name__, (own,), {"plan": counting}))
    except TypeError:
        return False
    return True


def _count(chosen: SelectedKeys) -> float:
    """Far keys that a query reads, on average over heads and queries."""
    keys = chosen.ids.shape[-1]
    return keys if chosen.mask is None else keys * float(chosen.mask.float().mean())
