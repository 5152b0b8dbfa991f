"""Which layers would read the same tokens: shares of one layer's top-k that another's has too.

Measured once on a model, by the last queries of a text, and stored with other calibrations.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.methods import calibration
from lengthwise.methods.selection._shared.calibration_text import calibration_text
from lengthwise.methods.selection.reading import by_key_head
from lengthwise.models.adapted_model import AdaptedModel

KIND = "tidal"
# Tokens of the text, queries at its end that are asked, and tokens that each head chooses.
LENGTH, QUERIES, CHOSEN = 2048, 32, 256


def layer_recall(model: AdaptedModel) -> dict[str, Any]:
    """What `measure_recall` found: stored, or measured now if that is quick.

    Args:
        model: the adapted model the recipe runs on.

    Raises:
        Refused: for a larger model that was not calibrated, with the command.
    """
    found = calibration.find(KIND, model)
    if found is None and model.model.num_parameters() <= calibration.SMALL:
        line = "tidal: comparing what this model's layers attend to, once"
        Console(markup=False, stderr=True).print(line, soft_wrap=True)
        found = measure_recall(model)
        calibration.save(KIND, model, found)
    return found if found is not None else calibration.load(KIND, model)


@torch.no_grad()
def measure_recall(model: AdaptedModel, ids: Seq[int] | None = None) -> dict[str, Any]:
    """How well each layer's top-k stands for another's.

    Args:
        model: to be measured.
        ids: the text; None is `calibration_text`, twice, so that there is something to find.

    Returns:
        "layers": those without a window of their own. "recall": `[layers][layers]`, the share of
            the second layer's top-k that the first one's has, head by head. "chosen": that k.
    """
    if ids is None:
        once = calibration_text(model, min(LENGTH, model.trained_length) // 2)
        ids = [*once, *once[1:]]
    queries = max(1, min(QUERIES, len(ids) // 4))
    # Every query has at least so many keys to choose from.
    count = max(1, min(CHOSEN, (len(ids) - queries) // 8))
    sequence = Sequence(model, expected=len(ids), remember=queries)
    prefill(sequence, ids)
    full = [layer for layer in sequence.layers if not layer.own_window]
    tops = []
    for layer in full:
        asked, tail = layer.last_queries(), layer.groups[0].near.tail
        assert asked is not None and tail is not None
        tops.append(top_mask(asked, tail.key, count).flatten().to("cpu", torch.float32))
    masks = torch.stack(tops)
    recall = masks @ masks.T / masks[0].sum()
    return {
        "layers": [layer.facts.index for layer in full],
        "recall": [[round(x, 4) for x in row] for row in recall.tolist()],
        "chosen": count,
    }


def top_mask(query: Tensor, key: Tensor, count: int) -> Tensor:
    """Which keys have the largest logits, of those each query sees.

    Args:
        query: a text's last ones, `[heads, q, head_dim]`.
        key: of all the text, `[kv_heads, n, head_dim]`.
        count: how many are chosen.

    Returns:
        Bool `[heads, q, n]`.
    """
    queries, keys = query.shape[1], key.shape[1]
    logits = by_key_head(query, len(key)).float() @ key.float().mT
    logits = logits.view(len(query), queries, keys)
    hidden = torch.ones(queries, keys, dtype=torch.bool, device=key.device)
    logits.masked_fill_(hidden.triu_(keys - queries + 1), -torch.inf)
    best = logits.topk(count, -1).indices
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, best, True)


def best_layer(found: dict[str, Any], first: int) -> int | None:
    """The re-selection layer that recalls most, summed over the layers that only read.

    Args:
        found: as `measure_recall` gives it.
        first: the first selection layer.

    Returns:
        A later layer; None where there is none that another layer follows.
    """
    layers, recall = found["layers"], torch.tensor(found["recall"])
    at = layers.index(first)
    totals = {
        layer: float(recall[at, at + 1 : spot].sum() + recall[spot, spot + 1 :].sum())
        for spot, layer in enumerate(layers)
        if at < spot < len(layers) - 1
    }
    return max(totals, key=totals.__getitem__) if totals else None


__all__ = ["best_layer", "layer_recall", "measure_recall", "top_mask"]
