"""How far apart tokens stand when one reads another, against how far the model was trained to see.

It is asked of the plan: a window and what its placement does beyond bound the distance, and a
frequency rule stretches what the model knows by as much as it slows its slowest channel.
"""

from __future__ import annotations

import torch

from lengthwise.engine.kv_cache.cache_plan import CachePlan
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.adapted_model import AdaptedModel

# A rule may fall short of its factor by rounding.
_SLACK = 1.001


def positions(sequence: Sequence, tokens: int | None = None) -> int:
    """Positions that tokens take, all documents that are set apart among them.

    Args:
        sequence: it may still have tokens to read.
        tokens: how many there will be; None is those there are.
    """
    shared = 0 if sequence.apart is None else sequence.apart.shared
    return (len(sequence) if tokens is None else tokens) - shared


def distance(sequence: Sequence) -> int:
    """The largest distance at which the last token read another one."""
    last = positions(sequence) - 1
    windows = [layer.window for layer in sequence.model.layers]
    if all(window is not None for window in windows):
        return min(last, max(window or 1 for window in windows) - 1)
    placement = sequence.plan.placement
    if placement.compact:
        return max(group.kept() for _, group in sequence.groups()) - 1
    if placement.window is None or last < placement.window:
        return last
    found = placement.window - 1
    far = torch.arange(last - placement.window + 1)
    if not placement.keeps_far:
        return found
    if placement.keep_far is not None:
        far = far[placement.keep_far(far)]
    if not len(far):
        return found
    keys = torch.zeros_like(far) if placement.far_raw else placement.far_key(far)
    queries = placement.far_query(torch.tensor([last]))
    return max(found, int((queries - keys).max()))


def stretch(plan: CachePlan, model: AdaptedModel, length: int) -> float:
    """How many times farther than trained the model sees under the plan's frequencies."""
    if plan.rule is None or model.rope is None:
        return 1.0
    found = []
    for facts in model.rope.facts.values():
        exponents = torch.arange(0, facts.rotary_dim, 2, dtype=torch.float64) / facts.rotary_dim
        own = (facts.theta**-exponents).float()
        slowest = float(plan.rule.scale(own, facts, length)[0][-1])
        found.append(float(own[-1]) / slowest if slowest > 0 else float("inf"))
    return min(found, default=1.0)


def note_beyond(sequence: Sequence) -> str | None:
    """What to say of a text longer than the model was trained for; None where nothing is."""
    model, plan = sequence.model, sequence.plan
    read = positions(sequence)
    own = getattr(model.model.config.get_text_config(), "rope_parameters", None) or {}
    # Frequencies that the model itself changes with the length follow any text.
    if read <= model.trained_length or own.get("rope_type") == "dynamic":
        return None
    known = model.trained_length * stretch(plan, model, read)
    reached = distance(sequence) + 1
    # A cap on distances is the trained length itself, which is one more than was seen.
    if reached <= known * _SLACK + 1:
        return None
    way = (
        "; yarn, self_extend, lm_infinite or streaming keep to distances that it knows"
        if model.rope is not None
        else ""
    )
    return (
        f"{plan.text} reads {reached:,} tokens, {reached - int(known):,} beyond the {int(known):,} "
        f"that the model knows ({model.trained_length:,} trained): what it says may degrade{way}"
    )
