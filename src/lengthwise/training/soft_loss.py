"""The loss of a frozen model behind soft embeddings, behind their text, and behind nothing.

The forward is transformers' own, over embeddings. Rows of a batch are filled up behind their end,
where nobody looks.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.obstacles import no_autocast
from lengthwise.soft_contexts.base import Encoder, Example
from lengthwise.soft_contexts.layers import padded

LOSSES = ("without", "soft", "other", "text")


def soft_embeddings(encoder: Encoder, examples: Seq[Example]) -> list[Tensor]:
    """Embeddings `[m, hidden]` of the contexts of several examples, in whose graph the encoder is.

    Args:
        encoder: that reads them; those of one ratio together.
        examples: in whose order they come.
    """
    found: dict[int, Tensor] = {}
    for ratio in sorted({each.ratio for each in examples}, key=lambda ratio: ratio or 0):
        rows = [number for number, each in enumerate(examples) if each.ratio == ratio]
        parts = [[*encoder.pieces(examples[row].context)] for row in rows]
        flat = encoder([piece for row in parts for piece in row], ratio)
        start = 0
        for row, pieces in zip(rows, parts, strict=True):
            found[row] = torch.cat(flat[start : start + len(pieces)])
            start += len(pieces)
    return [found[number] for number in range(len(examples))]


@no_autocast()
def loss_of(
    model: AdaptedModel, examples: Seq[Example], contexts: Seq[Tensor], first: int = 0
) -> Tensor:
    """-log p of the tokens of `after` that count, summed over examples.

    Args:
        model: whose stock forward is used.
        examples: rows of one batch.
        contexts: embeddings `[m, hidden]` that each of them is read behind; m may be 0.
        first: tokens of `after` that do not count in any case.

    Returns:
        One number, in nats; `counted` is what to divide it by.
    """
    rows: list[Tensor] = []
    wanted: list[tuple[int, int]] = []
    targets: list[int] = []
    for example, context in zip(examples, contexts, strict=True):
        before, after = (_embedded(model, ids) for ids in (example.before, example.after))
        start = len(example.before) + len(context) + max(first, example.start)
        rows.append(torch.cat([before, context.to(model.dtype), after]))
        wanted.append((start - 1, len(rows[-1]) - 1))
        targets += example.after[max(first, example.start) :]
    logits = _logits(model, padded(rows), min(start for start, _ in wanted))
    kept = max(map(len, rows)) - logits.shape[1]
    predicting = [
        each[start - kept : stop - kept] for each, (start, stop) in zip(logits, wanted, strict=True)
    ]
    ids = torch.tensor(targets, device=logits.device)
    return F.cross_entropy(torch.cat(predicting).float(), ids, reduction="sum")


def counted(examples: Seq[Example], first: int = 0) -> int:
    """How many tokens a loss is the sum of.

    Args:
        examples: as for `loss_of`.
        first: as for `loss_of`.
    """
    return sum(len(each.after) - max(first, each.start) for each in examples)


def _embedded(model: AdaptedModel, ids: Seq[int]) -> Tensor:
    return model.embed(torch.tensor(ids, dtype=torch.long, device=model.device))


def _logits(model: AdaptedModel, embeddings: Tensor, start: int) -> Tensor:
    """Logits of all tokens of rows `[rows, n, hidden]`, of those from one on where that goes."""
    more: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(model.model.forward).parameters:
        more["logits_to_keep"] = torch.arange(start, embeddings.shape[1], device=model.device)
    logits: Tensor = model.model(inputs_embeds=embeddings, use_cache=False, **more).logits
    return logits


@torch.no_grad()
def losses_of(
    encoder: Encoder, examples: Seq[Example], together: int = 8, told: Seq[str] = ()
) -> dict[str, float]:
    """Nats a token of examples behind nothing, soft embeddings, another's, and the text itself.

    The first token counts in none of them, for nothing predicts it without a context. Those behind
    "other", the embeddings of the next example, show how much of what "soft" gains is no more than
    the kind of text.

    Args:
        encoder: whose embeddings they are.
        examples: at least one.
        together: examples of a forward.
        told: which of "without", "soft", "other" and "text" are wanted; none is all.
    """
    model, total = encoder.model, dict.fromkeys(told or LOSSES, 0.0)
    for at in range(0, len(examples), together):
        part = examples[at : at + together]
        for name in total:
            if name == "soft":
                contexts = soft_embeddings(encoder, part)
            elif name == "other":
                turned = zip(part, [*part[1:], part[0]], strict=True)
                others = [replace(each, context=next_.context) for each, next_ in turned]
                contexts = soft_embeddings(encoder, others)
            else:
                ids = [each.context if name == "text" else () for each in part]
                contexts = [_embedded(model, each) for each in ids]
            total[name] += float(loss_of(model, part, contexts, first=1))
    count = counted(examples, first=1)
    return {name: found / count for name, found in total.items()}


__all__ = ["LOSSES", "counted", "loss_of", "losses_of", "soft_embeddings"]
