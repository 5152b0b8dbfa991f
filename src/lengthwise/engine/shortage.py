"""A request that cannot go on: it ends, and the others, and the model, are as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq
from contextlib import contextmanager

from lengthwise._utils.messages import ran_out
from lengthwise.engine.request import Request
from lengthwise.errors import ConstraintError, NotFinite, OutOfMemory


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


@contextmanager
def losing(request: Request) -> Iterator[None]:
    """Ends a request, and raises nothing, where what it does meets no numbers, no memory, or
    a constraint that leaves nothing.

    Args:
        request: whose prompt is read within.
    """
    try:
        yield
    except NotFinite as error:
        error.row = request.sampler.row
        request.fail(error)
    except ConstraintError as error:
        request.fail(error)
    except Exception as error:
        if not ran_out(error):
            raise
        end(request, error)


def lose_row(request: Request, error: Exception) -> None:
    """Ends a request, and no other of its step, whose logits are no numbers, for which memory ran
    out, or whose constraint leaves nothing; what it said stays. Raises any other error again."""
    if isinstance(error, NotFinite | ConstraintError):
        request.fail(error)
    elif ran_out(error):
        end(request, error)
    else:
        raise error


def end(request: Request, error: Exception) -> None:
    """Ends a request for which memory ran out, and frees what it kept."""
    sequence = request.sequence
    request.fail(OutOfMemory(len(sequence), sequence.nbytes(), str(sequence.model.device), error))
    sequence.become(sequence.empty())


__all__ = ["end", "lose_row", "lose_step", "losing"]
