"""Where two texts part, and how close a call it was: a near tie is rounding, no more."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling


def first_difference(one: Seq[int], other: Seq[int]) -> int | None:
    """The first index at which two texts differ, one of them being over included; None if equal."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return None if len(one) == len(other) else min(len(one), len(other))


def top_gap(sequence: Sequence, tokens: Seq[int], sampling: Sampling | None = None) -> float:
    """By how much what is chosen after `tokens` leads the next best.

    sequence: has read the prompt. tokens are fed to it one by one, as plain decoding feeds them, so
        the logits are those that plain decoding saw.
    sampling: at temperature 0 (or None) the lead is in logits. Else it is in log probability with
        the noise of the sampler.
    """
    sequence.end_prefill()
    context = [*sequence.tokens, *tokens]
    # The last token only asks for the logits before it; any will do.
    logits = loop.teacher_force(sequence, [*tokens, 0])[-1].float()
    if sampling is not None and sampling.temperature > 0:
        sampler = Sampler(sampling)
        logits = sampler.perturbed(sampler.probs(logits, context), len(context))
    first, second = logits.topk(2).values.tolist()
    return float(first - second)
