"""The thread that runs the model for everybody who asks."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from math import ceil

from lengthwise._utils.openmp import give_back_team
from lengthwise.api.model import Model
from lengthwise.api.prefixes import bytes_of, prefix_cache_of
from lengthwise.engine.logprobs import TokenLogprob
from lengthwise.engine.plan import Plan
from lengthwise.errors import LengthwiseError
from lengthwise.recipes import RecipeLike
from lengthwise.serving.job import Ask, Job, Piece
from lengthwise.serving.room import free_for_entries
from lengthwise.serving.scheduler import Scheduler, Stats

# Of what is free on the model's device at the start: for KV of requests, and for prefixes.
KV_SHARE, CACHE_SHARE = 0.5, 0.1
# Requests that wait at most.
QUEUE = 256
# Plans of recipes that are kept for the next call.
MOST_PLANS = 256
LOG = logging.getLogger("lengthwise.serving")


class QueueFull(LengthwiseError):
    """As many requests wait as may. retry_after_s: when one is expected to be let in."""

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(waiting, retry_after_s)
        self.waiting, self.retry_after_s = waiting, retry_after_s

    def __str__(self) -> str:
        return f"{self.waiting} requests wait already; try again in {self.retry_after_s:.0f} s"


class Closing(LengthwiseError):
    """The engine takes no more requests."""

    def __str__(self) -> str:
        return "the server is shutting down and takes no more requests; ask another one"


class Ticket:
    """What was handed in. `cancel` may be called from any thread, at any time."""

    def __init__(self, job: Job, wake: Callable[[], None]) -> None:
        # Who keeps a ticket keeps nothing of a text that is over.
        self._job, self._wake = weakref.ref(job), wake

    def cancel(self) -> None:
        """Ends the text, if it is not whole yet; its last piece says so."""
        job = self._job()
        if job is not None:
            job.cancelled = True
            self._wake()


class Engine:
    """Runs one model for many threads.

    Pieces are told from its own thread: listeners must return at once. One that raises has hung up.
    """

    def __init__(
        self, model: Model, recipe: RecipeLike = "full", cache_bytes: int | str | None = None,
        kv_bytes: int | str | None = None, queue: int = QUEUE, rows: int = 64,
    ) -> None:  # fmt: skip
        """
        Args:
            model: it alone runs it from now on.
            recipe: whose plan is made at once, so that the first request need not wait for it.
            cache_bytes: for what prompts begin with; None: what the model has, or a tenth of the
                memory that is free on its device. 0 keeps none.
            kv_bytes: for entries of requests; None: half of the memory that is free there.
            queue: requests that may wait.
            rows: that run at once, at most.

        Raises:
            LengthwiseError: for a recipe that cannot run on this model, and numbers that are none.
        """
        free = free_for_entries(model.adapted.device)
        self.model = model
        if cache_bytes is not None or model.prefix_cache is None:
            size = int(free * CACHE_SHARE) if cache_bytes is None else cache_bytes
            model.prefix_cache = prefix_cache_of(model.adapted, size)
        room = int(free * KV_SHARE) if kv_bytes is None else bytes_of("kv_bytes", kv_bytes)
        self._queue = queue
        self._scheduler = Scheduler(model, room, rows)
        self._plans: dict[str, Plan] = {}
        self._inbox: list[Job] = []
        self._changed = threading.Condition()
        self._closing = self._stopped = False
        self._stats = self._scheduler.stats()
        self._plan(recipe)
        self._thread = threading.Thread(target=self._run, name="lengthwise-engine", daemon=True)
        give_back_team()
        self._thread.start()

    def _plan(self, recipe: RecipeLike) -> Plan:
        text = str(recipe)
        plan = self._plans.get(text)
        if plan is None:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            plan = self._plans[text] = self.model.plan(recipe)
        return plan

    def submit(self, ask: Ask, told: Callable[[Piece], None]) -> Ticket:
        """Hands a text in; any thread may.

        Args:
            ask: what is asked for.
            told: called with every piece, the last one `done`.

        Raises:
            QueueFull: where as many wait as may.
            Closing: after `close`.
            LengthwiseError: for what cannot run, or could never be let in.
        """
        job = Job(self.model, self._plan(ask.recipe), ask, told)
        ticket = Ticket(job, self._wake)
        job.told = partial(_tell, ticket, told)
        self._scheduler.require_room(job)
        with self._changed:
            if self._closing or not self.alive:
                raise Closing
            waiting = self._stats.waiting + len(self._inbox)
            if waiting >= self._queue:
                seconds = self._scheduler.request_s * waiting / max(1, self._stats.running)
                raise QueueFull(waiting, max(1, ceil(seconds)))
            self._inbox.append(job)
            self._changed.notify()
        return ticket

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def stats(self) -> Stats:
        """What it does and did, as of the last round."""
        return self._stats

    def close(self, drain_s: float = 0.0) -> None:
        """Takes no more requests, lets those that run end, and ends.

        Args:
            drain_s: seconds they may still take; what is not whole then is broken off.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(drain_s)
        self._stopped = True
        self._wake()
        self._thread.join()

    # Its own thread.

    def _take(self) -> bool:
        """Waits for something to do, and takes what is new.

        Returns:
            False where nothing is left and nothing more will come.
        """
        scheduler = self._scheduler
        with self._changed:
            while scheduler.idle and not self._inbox and not self._closing:
                self._changed.wait()
            new, self._inbox = self._inbox, []
        for job in new:
            scheduler.add(job)
        return not scheduler.idle

    def _run(self) -> None:
        scheduler = self._scheduler
        while self._take():
            if self._stopped:
                scheduler.cancel_all()
            try:
                scheduler.step()
            except Exception as error:
                # What a round cannot get over is a fault of ours, and not the end of the server.
                scheduler.fail_all(error)
            self._stats = scheduler.stats()


def _tell(ticket: Ticket, told: Callable[[Piece], None], piece: Piece) -> None:
    try:
        told(piece)
    except Exception:
        ticket.cancel()
        LOG.exception("a listener of a text failed; the text is cancelled")


__all__ = [
    "Ask", "Closing", "Engine", "Piece", "QueueFull", "Stats", "Ticket", "TokenLogprob",
]  # fmt: skip
