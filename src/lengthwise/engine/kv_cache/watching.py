"""What a sequence has its layers note down, gathered from all who ask for something."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.prompt_end import prompt_selectors
from lengthwise.engine.kv_cache.retention import Retention
from lengthwise.engine.kv_cache.stepping import Observation


def watch(
    observation: Observation, layers: Seq[LayerCache], retention: Retention | None, remember: int
) -> None:
    """Fills in what the retention, the selectors and the codecs of a sequence want noted.

    Called again when the prompt has ended, as some ask for sums over the prompt alone.

    Args:
        observation: of the sequence; changed in place.
        layers: of the sequence, with their codecs and selectors.
        retention: of the sequence, if there is one.
        remember: last queries of the prompt that are kept at least.
    """
    windows = [remember, *(layer.codec.window for layer in layers if layer.codec is not None)]
    windows += [found.window for layer in layers for _, found in prompt_selectors(layer)]
    selectors = [group.selector for layer in layers for group in layer.groups]
    strides = [found.wants_attention_mass for found in selectors if found is not None]
    if retention is not None:
        windows.append(retention.window)
        sums = observation.reading or not getattr(retention, "sums_prompt_only", False)
        strides.append(int(retention.wants_attention_mass and sums))
    observation.remember = max(windows)
    observation.stride = min((stride for stride in strides if stride), default=0)
    observation.following = bool(getattr(retention, "follows_queries", False))
    observation.moments = getattr(retention, "wants_moments", None)


def follow_queries(layers: Seq[LayerCache]) -> None:
    """Has layers keep the newest query from now on.

    Args:
        layers: of one sequence, which is decoding.
    """
    observation = layers[0].observation
    observation.remember, observation.following = max(1, observation.remember), True


__all__ = ["follow_queries", "watch"]
