"""A text as it is written: an iterator, or an asynchronous one, over its pieces.

Nothing runs but what the next piece takes, in the thread that asks for it (an asynchronous stream
has a thread of its own for it). So whoever stops asking has stopped the generation, and the model
is free for others between any two pieces.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from lengthwise._utils.openmp import give_back_team
from lengthwise.api.batch import Batch, Cancelled
from lengthwise.api.generation import Generation
from lengthwise.errors import LengthwiseError
from lengthwise.models.obstacles import no_autocast

Open = Callable[[Callable[[str], None], Callable[[], bool]], Batch]
Close = Callable[[Batch], Generation]


class Stream(Iterator[str]):
    """The pieces of one text as they are written; joined, they are the text. Made by
    `Model.stream`.

    `close`, from any thread, ends it within one round, or one chunk of a prompt. It is also a
    context that closes itself. `broken` says that an error, or Ctrl-C, ended it amid a forward.
    """

    def __init__(self, open_: Open, close: Close) -> None:
        self._pieces: deque[str] = deque()
        self._stopped = threading.Event()
        self._lock = threading.RLock()
        self._running = self.broken = False
        self._close = close
        self._read = False
        self._found: Generation | None = None
        with no_autocast():
            self._batch: Batch | None = open_(self._pieces.append, self._stopped.is_set)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        with self._lock:
            while not self._pieces and self._batch is not None:
                self._advance()
            if self._stopped.is_set():
                self._end()
                raise StopIteration
            if not self._pieces:
                self._raise()
                raise StopIteration
            return self._pieces.popleft()

    def _advance(self) -> None:
        """One round, or the prompt; the end where nothing is left to do."""
        batch = self._batch
        assert batch is not None
        if self._stopped.is_set() or (self._read and not batch.active):
            self._end()
            return
        self._running = True
        try:
            with no_autocast():
                if self._read:
                    batch.step()
                else:
                    self._read = True
                    batch.read()
        except Cancelled:
            pass
        except BaseException:
            # Whatever it was, nobody can go on with it; what was said is kept.
            self._running, self.broken = False, True
            self._stopped.set()
            self._end()
            raise
        self._running = False

    def _end(self) -> None:
        """Closes the books; what was not said yet is not said any more where it was stopped."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.cancel()
            self._found = self._close(batch)
        if self._stopped.is_set():
            self._pieces.clear()

    def _raise(self) -> None:
        """What kept the text from being whole, once."""
        if self._found is not None and not self._stopped.is_set():
            self._stopped.set()
            self._found.require()

    def stop(self) -> None:
        """Asks for the end, without waiting for it; from any thread, and from a callback."""
        self._stopped.set()

    def close(self) -> None:
        """Ends the generation; where another thread is in the midst of it, waits until it has left.

        Called again, or when the text is whole, it does nothing.
        """
        if self._found is not None and self._batch is None:
            return
        self._stopped.set()
        with self._lock:
            # Called by a callback of ours, in the midst of a forward: it ends when that returns.
            if not self._running:
                self._end()

    @property
    def generation(self) -> Generation:
        """The text so far, its tokens and its costs, once it is whole or was closed.

        One that was closed has "cancelled" for its `metrics.finish_reason`. Raises LengthwiseError
        before.
        """
        if self._found is None:
            raise LengthwiseError("the text is still being written; read the stream, or close it")
        return self._found

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream(AsyncIterator[str]):
    """`Stream` for asyncio: forwards run in a thread of its own, so that the event loop goes on.

    Made by `Model.astream`. When the task that reads it is cancelled, the generation ends within
    one round, or one chunk of a prompt, and the task with it: nothing runs on behind its back.
    """

    def __init__(self, make: Callable[[], Stream]) -> None:
        self._make = make
        self._stream: Stream | None = None
        self._over = False
        self._thread = ThreadPoolExecutor(1, "lengthwise-stream")
        give_back_team()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> str:
        piece: str | None = None
        try:
            if not self._over:
                piece = await self._call(self._next)
        finally:
            if piece is None:
                self._leave()
        if piece is None:
            raise StopAsyncIteration
        return piece

    def _next(self) -> str | None:
        if self._stream is None:
            self._stream = self._make()
        if self._over:
            self._stream.stop()
        return next(self._stream, None)

    async def _call(self, function: Callable[[], str | None]) -> str | None:
        future = asyncio.get_running_loop().run_in_executor(self._thread, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._over = True
            if self._stream is not None:
                self._stream.stop()
            # One round more, and the thread has left the model.
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            if self._stream is not None:
                self._stream.close()
            raise

    def _leave(self) -> None:
        self._over = True
        self._thread.shutdown(wait=False)

    async def aclose(self) -> None:
        """Ends the generation; does nothing when the text is whole."""
        self._leave()
        if self._stream is not None:
            self._stream.stop()
            await asyncio.to_thread(self._stream.close)

    @property
    def generation(self) -> Generation:
        """As of `Stream`."""
        if self._stream is None:
            state = "was closed before it began" if self._over else "has not begun; read the stream"
            raise LengthwiseError(f"there is no text: it {state}")
        return self._stream.generation

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


__all__ = ["AsyncStream", "Stream"]
