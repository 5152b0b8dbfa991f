"""Texts read under a recipe, in one pass, chunks or steps."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend
from lengthwise.engine.plan import FULL
from lengthwise.methods.base import Method
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model

TRAINED = 32
COUNT = 61


def adapted_tiny(family: str = "llama", **changes: object) -> AdaptedModel:
    changes = {"max_position_embeddings": TRAINED, "initializer_range": 0.15, **changes}
    return adapt(tiny_model(family, **changes))


def logits_of(
    model: AdaptedModel, method: Method | None, ids: list[int], cut: int = 0, chunk: int = 0
) -> Tensor:
    """Logits of every token: ids[:cut] read in chunks (all of them where cut is 0), the rest fed
    one by one."""
    plan = FULL if method is None else resolve([method], model)
    sequence = Sequence(model, plan)
    cut = cut or len(ids)
    sequence.reading = cut
    step = min(chunk or cut, sequence.max_block() or cut)
    found = []
    for start in range(0, len(ids), step):
        if start >= cut:
            break
        part = ids[start : min(start + step, cut)]
        (logits,), (block,) = extend([(sequence, part, None)], "all")
        sequence.commit(block, part)
        found.append(logits)
    sequence.end_prefill()
    for token in ids[cut:]:
        (logits,), (block,) = extend([(sequence, [token], None)], "all")
        sequence.commit(block, [token])
        found.append(logits)
    return torch.cat(found)
