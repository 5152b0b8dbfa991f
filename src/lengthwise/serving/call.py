"""The texts of one call: handed to the engine together, read as they come, cancelled together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from starlette.types import Receive

from lengthwise.api.generation import Generation
from lengthwise.serving.engine import Ask, Piece
from lengthwise.serving.errors import ApiError, api_error
from lengthwise.serving.mailbox import Mailbox

if TYPE_CHECKING:
    from lengthwise.serving.engine import Engine, Ticket
    from lengthwise.serving.metrics import Metrics

# Pieces of a call that may wait for a client that does not read them.
MOST_WAITING = 4096
# A stream in which nothing happens for as long says that it is still there.
KEEP_ALIVE_S = 10.0


class Call:
    """One call's texts. begin: when it came, of `time.perf_counter`."""

    def __init__(self, engine: Engine, asks: Sequence[Ask], metrics: Metrics) -> None:
        self.begin = time.perf_counter()
        self._engine, self._asks = engine, list(asks)
        self._mailbox = Mailbox(MOST_WAITING, self.cancel)
        self._told = [
            metrics.watched(self._mailbox.told(number), self.begin) for number in range(len(asks))
        ]
        self._tickets: list[Ticket] = []
        self._cancelled = threading.Event()

    async def submit(self) -> None:
        """Hands all texts in, or none.

        Raises:
            ApiError: where the engine takes one of them not.
        """
        # Plans of recipes are made here, which may load what guesses.
        try:
            await asyncio.to_thread(self._submit)
        except BaseException as error:
            self.cancel()
            if isinstance(error, Exception):
                raise api_error(error) from error
            raise

    def _submit(self) -> None:
        for ask, told in zip(self._asks, self._told, strict=True):
            if self._cancelled.is_set():
                return
            ticket = self._engine.submit(ask, told)
            self._tickets.append(ticket)
            # It may have been cancelled from the loop while the engine took this one.
            if self._cancelled.is_set():
                ticket.cancel()

    def cancel(self) -> None:
        """Ends what is not whole yet; does nothing to what is."""
        self._cancelled.set()
        for ticket in list(self._tickets):
            ticket.cancel()

    async def pieces(self) -> AsyncIterator[tuple[int, Piece] | None]:
        """Pieces as they come, each with the number of its text; None where none came for long.

        Raises:
            ApiError: where a text could not be written, or its client reads too slowly.
        """
        left = len(self._asks)
        while left:
            found = await self._mailbox.next(KEEP_ALIVE_S)
            if found is None:
                if self._mailbox.overflown:
                    raise ApiError(
                        408, "slow_reader", f"{MOST_WAITING:,} pieces of this answer waited to be "
                        "read, which ended it; read faster",
                    )  # fmt: skip
                yield None
                continue
            number, piece = found
            require_whole(piece)
            left -= piece.done is not None
            yield number, piece


def require_whole(piece: Piece) -> None:
    """Raises what kept a text from being whole.

    Args:
        piece: of it.

    Raises:
        ApiError: as the last piece says.
    """
    done = piece.done
    if isinstance(done, Generation):
        error = done.refused or done.failed
        if error is not None:
            raise api_error(error)
        if done.metrics.finish_reason == "cancelled":
            raise ApiError(503, "cancelled", "the server is shutting down; ask again")
        if done.metrics.finish_reason == "deadline" and not done.token_ids:
            raise ApiError(504, "deadline", "the deadline was over before the first token came")
    elif done is not None:
        raise api_error(done)


async def gone(receive: Receive) -> None:
    """Returns when the client has hung up.

    Args:
        receive: of a request whose body was read.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
