"""The student: a frozen model behind a prefix of trainable keys and values, and its loss.

The forward is transformers' own. The prefix goes in as a cache that is made of the parameters for
each forward, so that gradients reach them; the cache that a model fills itself would cut them off.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence as Seq
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.frozen import frozen
from lengthwise.models.obstacles import no_autocast
from lengthwise.training.cartridge_rows import Row


class Prefix(nn.Module):
    """Keys and values of p positions in every layer, float32 `[kv_heads, p, head_dim]`.

    The first `frozen` positions stay as they are: the first token of a text takes much attention
    whatever it says, and training breaks when it moves.
    """

    def __init__(self, layers: Seq[KVEntries], frozen: int = 1) -> None:
        super().__init__()
        self.tokens = len(layers[0])
        self.frozen = frozen
        whole = [[each.key.float(), each.value.float()] for each in layers]
        self.still = [[t[:, :frozen].clone() for t in pair] for pair in whole]
        self.trained = nn.ParameterList(
            nn.Parameter(t[:, frozen:].clone()) for pair in whole for t in pair
        )

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of each layer, in whose graph the parameters are."""
        for layer, still in enumerate(self.still):
            key, value = self.trained[2 * layer], self.trained[2 * layer + 1]
            yield torch.cat([still[0], key], 1), torch.cat([still[1], value], 1)

    @torch.no_grad()
    def entries(self) -> list[KVEntries]:
        """What it holds now, as entries of a cache."""
        found = []
        for key, value in self.pairs():
            index = torch.arange(self.tokens, dtype=torch.int32, device=key.device)[None]
            found.append(KVEntries(key.clone(), value.clone(), index))
        return found

    def cache(self, model: PreTrainedModel, rows: int) -> Cache:
        """A cache of transformers that has read the prefix, once for each row.

        Args:
            model: in whose dtype it is held.
            rows: of the batch that follows.
        """
        cache = DynamicCache(config=model.config.get_text_config())
        for layer, pair in enumerate(self.pairs()):
            key, value = (t.to(model.dtype)[None].expand(rows, -1, -1, -1) for t in pair)
            cache.update(key, value, layer)
        return cache


@no_autocast()
def loss_of(adapted: AdaptedModel, prefix: Prefix | None, rows: Seq[Row]) -> Tensor:
    """-sum p_teacher log q_student over the teacher's likeliest tokens, summed over predictions.

    Args:
        adapted: whose stock forward is used.
        prefix: stands before every row; None is nothing.
        rows: of one batch. Shorter ones are filled up behind their end, where nobody looks.

    Returns:
        One number, in nats; `sum(row.predicted for row in rows)` is what to divide it by.
    """
    model, device = adapted.model, adapted.device
    longest = max(map(len, rows))
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row))] for row in rows], device=device)
    first = 0 if prefix is None else prefix.tokens
    positions = torch.arange(first, first + longest, device=device).expand(len(rows), -1)
    before: dict[str, Any] = (
        {} if prefix is None else {"past_key_values": prefix.cache(model, len(rows))}
    )
    kept = min(row.start for row in rows)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        before["logits_to_keep"] = torch.arange(kept, longest, device=device)
    else:
        kept = 0
    logits = model(
        input_ids=ids, position_ids=positions, use_cache=prefix is not None, **before
    ).logits
    predicting = [logits[n, row.start - kept : len(row) - kept] for n, row in enumerate(rows)]
    log_probs = F.log_softmax(torch.cat(predicting).float(), -1)
    where = log_probs.device
    top_ids = torch.cat([row.top_ids for row in rows]).to(where)
    prob = torch.cat([row.top_log_probs for row in rows]).to(where).exp()
    return -(prob * log_probs.gather(1, top_ids)).sum()


@torch.no_grad()
def mean_loss(
    adapted: AdaptedModel, prefix: Prefix | None, rows: Seq[Row], together: int = 4
) -> float:
    """Nats a predicted token over all rows.

    Args:
        adapted: whose stock forward is used.
        prefix: as for `loss_of`.
        rows: at least one.
        together: rows of a forward.
    """
    total = sum(
        float(loss_of(adapted, prefix, part)) for part in batches(range(len(rows)), rows, together)
    )
    return total / sum(row.predicted for row in rows)


def batches(chosen: Seq[int], rows: Seq[Row], together: int) -> list[list[Row]]:
    """Rows of a step in batches of similar lengths, so that little is filled up.

    Args:
        chosen: which rows.
        rows: all of them.
        together: rows of a batch, at most.
    """
    ordered = sorted((rows[each] for each in chosen), key=len)
    return [ordered[n : n + together] for n in range(0, len(ordered), together)]


__all__ = ["Prefix", "batches", "frozen", "loss_of", "mean_loss"]
