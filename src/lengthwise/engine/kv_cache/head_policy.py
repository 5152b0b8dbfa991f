"""What key heads of a layer do from the first token on, where not all of them do the same: data.

A table says it: for a layer its policies, which share the layer's key heads out among them. Each
becomes a head group with stores of its own, so what a head does not keep takes no bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

import torch

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Selector
from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class HeadPolicy:
    """Some key heads of one layer, and where their tokens stand.

    Attributes:
        heads: which key heads, ascending; None is all of the layer.
        placement: theirs alone, at ordinary positions; nothing selects among what they keep. None
            leaves these heads to the rest of the recipe, its selection included.
    """

    heads: tuple[int, ...] | None = None
    placement: Placement | None = None


HeadTable = Mapping[int, Seq[HeadPolicy]]
"""By the index of a layer its policies. A layer that is not there is the rest of the recipe's."""


def sinks_and_recent(sinks: int, recent: int) -> Placement:
    """The first tokens and the latest ones, all at the positions where they were born.

    Args:
        sinks: first tokens that are kept.
        recent: latest tokens that a query sees, itself included.
    """
    return Placement(window=recent, keeps_far=sinks > 0, keep_far=First(sinks) if sinks else None)


@dataclass(frozen=True)
class First:
    """Whether birth ids `[n]` are among the first `count`: bool `[n]`."""

    count: int

    def __call__(self, index: torch.Tensor) -> torch.Tensor:
        return index < self.count


def split(layer: LayerFacts, chosen: Seq[bool], placement: Placement) -> tuple[HeadPolicy, ...]:
    """Chosen key heads do as the recipe says, the others as `placement` says.

    Args:
        layer: facts of the layer.
        chosen: a truth for each of its key heads.
        placement: of the others.

    Returns:
        One policy where all heads do the same, else two, the chosen ones' first.
    """
    theirs = tuple(head for head in range(layer.num_kv_heads) if chosen[head])
    others = tuple(head for head in range(layer.num_kv_heads) if not chosen[head])
    if not others:
        return (HeadPolicy(),)
    if not theirs:
        return (HeadPolicy(placement=placement),)
    return HeadPolicy(theirs), HeadPolicy(others, placement)


class Begins(Protocol):
    """What of a plan says how a layer begins: see `CachePlan`."""

    @property
    def head_table(self) -> HeadTable | None: ...

    @property
    def placement(self) -> Placement: ...

    @property
    def selector(self) -> Callable[[LayerFacts], Selector | None] | None: ...


def first_groups(plan: Begins, layer: LayerFacts) -> list[HeadGroup]:
    """The head groups with which a layer of a new sequence begins.

    Args:
        plan: of the sequence.
        layer: facts of the layer.
    """
    found = []
    for policy in (plan.head_table or {}).get(layer.index, (HeadPolicy(),)):
        heads = None
        if policy.heads is not None:
            heads = torch.tensor(policy.heads, dtype=torch.long, device=layer.device)
        group = HeadGroup(policy.placement or plan.placement, heads)
        if policy.placement is None and plan.selector is not None:
            group.selector = plan.selector(layer)
        found.append(group)
    return found


__all__ = ["First", "HeadPolicy", "HeadTable", "first_groups", "sinks_and_recent", "split"]
