"""What the model thought of the tokens it said, and of those it might have said."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenLogprob:
    """A token and its log-probability under the model's own distribution, before temperature and
    filters; NaN of a token that nothing predicted. top: (token, log-probability) of the likeliest,
    best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def logprobs_of(logits: Tensor, tokens: Seq[int], count: int) -> list[TokenLogprob]:
    """Log-probabilities of tokens.

    Args:
        logits: `[n, vocab]`, which predicted them.
        tokens: n ids.
        count: how many of the likeliest are wanted beside each.
    """
    if not tokens:
        return []
    logs = torch.log_softmax(logits[: len(tokens)].float(), -1)
    said = logs.gather(1, torch.tensor(tokens, device=logs.device)[:, None])[:, 0].tolist()
    best = logs.topk(min(count, logs.shape[1]), -1)
    tops = [
        tuple(zip(ids, values, strict=True))
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return [TokenLogprob(*row) for row in zip(tokens, said, tops, strict=True)]


__all__ = ["TokenLogprob", "logprobs_of"]
