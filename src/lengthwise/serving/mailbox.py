"""What the engine says of the texts of one call, on its way from its thread to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from lengthwise.serving.engine import Piece


class Mailbox:
    """A queue of (number of the text, piece) with an end: whoever does not read gets no more.

    most: pieces that may wait. full: called once, when more came; nothing is taken after that.
    """

    def __init__(self, most: int, full: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[tuple[int, Piece]] = deque()
        self._came = asyncio.Event()
        self._most, self._full = most, full
        self.overflown = False

    def told(self, number: int) -> Callable[[Piece], None]:
        """What the engine calls, from any thread, with every piece of a text.

        Args:
            number: of the text.
        """

        def tell(piece: Piece) -> None:
            # After the server has ended, nobody listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take, number, piece)

        return tell

    def _take(self, number: int, piece: Piece) -> None:
        if self.overflown:
            return
        if len(self._pieces) >= self._most:
            self.overflown = True
            self._pieces.clear()
            self._full()
        else:
            self._pieces.append((number, piece))
        self._came.set()

    async def next(self, seconds: float | None = None) -> tuple[int, Piece] | None:
        """The next piece; None where none came in time, or more came than may wait.

        Args:
            seconds: to wait for it; None is for ever.
        """
        if not self._pieces and not self.overflown:
            self._came.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._came.wait()
            except TimeoutError:
                return None
        return self._pieces.popleft() if self._pieces else None
