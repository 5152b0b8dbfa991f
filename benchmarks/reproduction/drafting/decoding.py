"""A prompt that was read, continued by drafters under a policy that verifies so many guesses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter import Drafter

NEW = 64
# Nodes verified a round, the same whoever guessed them.
NODES = 16

Starter = Callable[[], Drafter]


def decode(
    base: Context, logits: Tensor, *starters: Starter, new: int = NEW, nodes: int = NODES,
    stop_ids: Sequence[int] = (), silent: bool = True, **settings: Any,
) -> Request:  # fmt: skip
    """A fork of a prompt that was read, continued. settings: of sampling, or a verifier.

    silent: nothing is to be said about the run. Raises RuntimeError where something is.
    """
    verifier = settings.pop("verifier", None)
    sequence = base.fork(Plan(drafters=starters, verifier=verifier))
    request = loop.begin(sequence, Sampling(**settings), new, stop_ids)
    loop.start(request, logits)
    for _ in loop.run(request, Fixed(nodes)):
        pass
    loop.finish(request)
    if silent and request.metrics.notes:
        raise RuntimeError(request.metrics.notes[0])
    return request
