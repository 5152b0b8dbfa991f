"""What selections are shown when a prompt is complete, all layers before any of them decides."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.placement import same
from lengthwise.engine.kv_cache.selection import PromptSelector


def prompt_selectors(layer: LayerCache) -> list[tuple[HeadGroup, PromptSelector]]:
    """The selectors of a layer that look at the whole prompt, with their groups.

    Args:
        layer: of a sequence.
    """
    return [
        (group, group.selector)
        for group in layer.groups
        if isinstance(group.selector, PromptSelector)
    ]


def show_prompt(layers: Iterable[LayerCache], length: int, offset: int) -> None:
    """Shows every selector that asks for it the prompt, and lets them agree.

    Args:
        layers: of a sequence whose prompt is complete.
        length: tokens of the prompt.
        offset: added to every position.
    """
    shown: list[PromptSelector] = []
    for layer in layers:
        for group, selector in prompt_selectors(layer):
            if len(group.far):
                queries = layer.last_queries()
                assert queries is not None
                if group.heads is not None:
                    queries = queries[layer.query_heads(group.heads)]
                last = queries[:, -selector.window :]
                selector.index_prompt(_as_far(last, layer, group, length, offset), group.far)
                shown.append(selector)
    if shown:
        shown[0].agree(shown)


def _as_far(
    queries: Tensor, layer: LayerCache, group: HeadGroup, length: int, offset: int
) -> Tensor:
    """The prompt's last queries `[heads, n, head_dim]`, from near keys to far ones."""
    placement, facts, rope = group.placement, layer.facts, layer.model.rope
    if placement.far_query is same or facts.layout is None or rope is None:
        return queries
    index = torch.arange(length - queries.shape[1], length, device=queries.device)
    # They are rotated as near queries already, and carry their amplitude.
    delta = placement.far_query(index) - index - offset
    angles = rope.angles(
        facts.layout, facts.rotary_type, delta, layer.rule, length, amplitude=False
    )
    return facts.layout.rotate(queries, angles)


__all__ = ["prompt_selectors", "show_prompt"]
