"""What a recipe says about the cache of a sequence, free of names and text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lengthwise.engine.kernels.part import DistanceBias
from lengthwise.engine.kv_cache.codec import Codec
from lengthwise.engine.kv_cache.contexts import ContextRule
from lengthwise.engine.kv_cache.head_policy import HeadTable
from lengthwise.engine.kv_cache.placement import ORDINARY, Placement
from lengthwise.engine.kv_cache.query_scale import QueryScale
from lengthwise.engine.kv_cache.retention import Renewal, Retention
from lengthwise.engine.kv_cache.selection import Selector
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import FrequencyRule


@dataclass(frozen=True, eq=False)
class CachePlan:
    """One answer for each question about the cache; every default is full attention.

    text: the recipe as it prints. rule: replaces the model's rotary frequencies. query_scale: makes
    logits grow with the position. contexts: how documents stand that are set apart. head_table:
    what key heads do that do not all do the same. renewal: computes entries again while writing.
    bias: what distance adds to a layer's logits. The starters make fresh state for a sequence.
    """

    text: str = "full"
    rule: FrequencyRule | None = None
    placement: Placement = ORDINARY
    selector: Callable[[LayerFacts], Selector | None] | None = None
    retention: Callable[[], Retention | None] | None = None
    codec: Callable[[LayerFacts], Codec | None] | None = None
    contexts: ContextRule | None = None
    head_table: HeadTable | None = None
    renewal: Callable[[], Renewal | None] | None = None
    bias: Callable[[LayerFacts], DistanceBias | None] | None = None
    query_scale: QueryScale | None = None

    @property
    def drops(self) -> bool:
        """Whether a text that is long enough loses tokens."""
        table = self.head_table or {}
        theirs = [each.placement for policies in table.values() for each in policies]
        bounded = any(where is not None and where.bounded for where in [self.placement, *theirs])
        return self.retention is not None or bounded


FULL_CACHE = CachePlan()
