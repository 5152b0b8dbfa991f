"""What a recipe says about the cache of a sequence, free of names and text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lengthwise.engine.kv_cache.codec import Codec
from lengthwise.engine.kv_cache.contexts import ContextWeights
from lengthwise.engine.kv_cache.placement import ORDINARY, Placement
from lengthwise.engine.kv_cache.query_scale import QueryScale
from lengthwise.engine.kv_cache.retention import Retention
from lengthwise.engine.kv_cache.selection import Selector
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import FrequencyRule


@dataclass(frozen=True, eq=False)
class CachePlan:
    """One answer for each question about the cache; every default is full attention.

    text: the recipe as it prints. rule: replaces the model's rotary frequencies. query_scale: makes
    logits grow with the position. contexts: what documents weigh that are read apart. The starters
    make fresh state for a sequence.
    """

    text: str = "full"
    rule: FrequencyRule | None = None
    placement: Placement = ORDINARY
    selector: Callable[[LayerFacts], Selector | None] | None = None
    retention: Callable[[], Retention | None] | None = None
    codec: Callable[[LayerFacts], Codec | None] | None = None
    contexts: ContextWeights | None = None
    query_scale: QueryScale | None = None

    @property
    def drops(self) -> bool:
        """Whether a text that is long enough loses tokens."""
        where = self.placement
        bounded = where.window is not None and (not where.keeps_far or where.keep_far is not None)
        return self.retention is not None or bounded


FULL_CACHE = CachePlan()
