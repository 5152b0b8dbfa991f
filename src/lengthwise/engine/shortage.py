"""Memory that runs out in the middle of a request: it ends, and the model stays usable."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lengthwise._utils.messages import ran_out
from lengthwise.engine.request import Request
from lengthwise.errors import OutOfMemory


def lose_step(requests: Seq[Request], error: Exception) -> list[list[int]]:
    """What a step said that failed as memory ran out: nothing. The longest of the requests ends and
    what it kept is freed; the others go on. Raises any other error again."""
    if not ran_out(error):
        raise error
    longest = max(requests, key=lambda request: len(request.sequence))
    for request in requests:
        request.sequence.discard()
    end(longest, error)
    return [[] for _ in requests]


def end(request: Request, error: Exception) -> None:
    """Ends a request for which memory ran out, and frees what it kept."""
    sequence = request.sequence
    request.fail(OutOfMemory(len(sequence), sequence.nbytes(), str(sequence.model.device), error))
    sequence.become(sequence.empty())


__all__ = ["end", "lose_step"]
