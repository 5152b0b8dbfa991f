"""Continuous batching: requests join and leave at every round, and prompts are read beside them.

A round is one step of all that write, and some of a prompt. Where more write than read, that is as
much as `Pace` allows, so that a long prompt holds up nobody. It is some layers of a long chunk
where the model can rest between them. Else, and where no more is left, it is a short chunk in the
step's own forward.
Requests are let in while KV bytes are left for all they may hold.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from traceback import clear_frames

from lengthwise._utils.messages import first_line
from lengthwise.api.generation import Generation
from lengthwise.api.held_model import HeldModel
from lengthwise.engine import loop
from lengthwise.engine.beside import Beside, joins
from lengthwise.engine.request import Request
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.models.obstacles import no_autocast
from lengthwise.serving.job import CANCELLED, DEADLINE, Job
from lengthwise.serving.pace import ALONE, Pace
from lengthwise.serving.room import own_bytes

# Rounds in which the prompt with the least left to read goes first, until the oldest does.
SHORT_FIRST = 3


class EngineFailed(LengthwiseError):
    """A round failed as none should: a fault of ours, and none of who asked."""


@dataclass(frozen=True)
class Stats:
    """What an engine does and did.

    running: texts being written or read. waiting: not let in yet. kv_bytes: held by those that
    run, entries they share with the prefix cache left aside; of kv_capacity. cache_bytes: held by
    the prefix cache, of cache_capacity. cache_queries, cache_hits: prompts looked up there, and
    those of which a beginning was found. accepted: guesses that were right, by drafter. reasons:
    texts that ended, by why.
    """

    running: int = 0
    waiting: int = 0
    kv_bytes: int = 0
    kv_capacity: int = 0
    cache_bytes: int = 0
    cache_capacity: int = 0
    cache_queries: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    decoded_tokens: int = 0
    steps: int = 0
    drafted: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


class Scheduler:
    """Rounds over the requests of one model. One thread alone uses it.

    kv_bytes: the most that all that run may come to hold. rows: the most that run at once.
    request_s: seconds that a request took lately.
    """

    def __init__(self, model: HeldModel, kv_bytes: int, rows: int = 64) -> None:
        self.model, self.kv_bytes, self.rows = model, kv_bytes, rows
        self.waiting: deque[Job] = deque()
        self.reading: list[Job] = []
        self.writing: list[Job] = []
        self.pace = Pace()
        self._rounds = self._reserved = 0
        self._counts: Counter[str] = Counter()
        self._accepted: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._kv_bytes = 0
        self.request_s = 1.0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.waiting or self.reading or self.writing)

    def require_room(self, job: Job) -> None:
        """Raises Refused for what could never be let in.

        Args:
            job: in question.
        """
        need = job.most_bytes
        if need > self.kv_bytes:
            raise Refused(
                f"{len(job.ask.ids):,} tokens of a prompt and {job.ask.max_new_tokens:,} of an "
                f"answer may take {need / 1e6:,.0f} MB of KV, and all there is for everybody is "
                f"{self.kv_bytes / 1e6:,.0f} MB",
                "ask for fewer tokens, shorten the prompt, or give the server more kv_bytes",
            )

    def add(self, job: Job) -> None:
        """Puts a request behind those that wait.

        Args:
            job: new.
        """
        self.waiting.append(job)

    @no_autocast()
    def step(self) -> None:
        """One round."""
        self._break_off()
        self._let_in()
        job, size = self._next()
        beside = self._beside(job, size) if job is not None and self.writing else None
        if self.writing:
            self._write(beside)
        if job in self.reading:
            self._alone(job, partial(self._read, job, size, beside))
        self._rounds += 1
        if self._rounds % 16 == 0 or not (self.reading or self.writing):
            running = self._requests([*self.reading, *self.writing])
            self._kv_bytes = sum(own_bytes(request.sequences) for request in running)

    def _requests(self, jobs: list[Job]) -> list[Request]:
        return [job.request for job in jobs if job.request is not None]

    def _next(self) -> tuple[Job | None, int]:
        """Whose prompt is read now, and how many tokens of it; none for a step alone.

        Mostly it is the one with the least left, now and then the oldest.
        """
        if not self.reading:
            return None, 0
        oldest_turn = self._rounds % (SHORT_FIRST + 1) == SHORT_FIRST
        job = self.reading[0] if oldest_turn else min(self.reading, key=lambda each: each.left)
        # Where more wait for their first token than for their next, the first ones go before.
        if len(self.reading) > len(self.writing):
            return job, job.chunk
        size = self.pace.chunk(job.chunk)
        if size < job.left and job.slices is None:
            layers = len(self.model.adapted.layers)
            long = max(size, self.pace.slice(job.chunk, layers))
            if not self._alone(job, partial(job.slice, long)):
                return None, 0
            if job.slices is None and self._rounds % ALONE == 0:
                # It is read in steps, and what one takes alone has to be seen now and then.
                return None, 0
        return job, size

    def _beside(self, job: Job, size: int) -> Beside | None:
        """What a step is to read of a prompt; None where that is read after it."""
        found: list[Beside | None] = []
        takes = job.slices is None and not job.done and joins(self.model.adapted.device)
        if takes and size < job.chunk:
            self._alone(job, lambda: found.append(job.beside(size)))
        return found[0] if found else None

    def _write(self, beside: Beside | None) -> None:
        """A step of all that write, which may read some of a prompt."""
        begin = time.perf_counter()
        found = loop.step(self._requests(self.writing), apart=True, beside=beside)
        seconds = time.perf_counter() - begin
        if beside is not None and beside.read:
            self.pace.read(len(beside.tokens), seconds - self.pace.step_s)
        else:
            self.pace.stepped(seconds)
        for job, new in zip(list(self.writing), found, strict=True):
            self._alone(job, partial(job.hear, new))
        self._settle()

    def _read(self, job: Job, size: int, beside: Beside | None) -> None:
        """Some of a prompt, unless a step has read it."""
        if beside is not None and beside.read:
            job.heed(beside)
        elif job.slices is not None:
            # What is under way is read to its end where nobody is to wait for it.
            done = job.advance(self.pace.room if size < job.chunk else math.inf)
            if done is not None:
                self.pace.sliced(len(done.tokens), done.seconds)
        elif not job.done:
            begin = time.perf_counter()
            count = job.read(size)
            if count:
                self.pace.read(count, time.perf_counter() - begin)
        self._reserve(job, job.bytes_to_hold)
        if job.done or not job.left:
            self.reading.remove(job)
            self.writing.append(job)
            self._settle()

    def _settle(self) -> None:
        """Tells everybody what is new, and lets go of what is done."""
        for job in list(self.writing):
            self._alone(job, job.tell)
        done = [(job, job.whole) for job in self.writing if job.whole is not None]
        self.writing = [job for job in self.writing if job.whole is None]
        for job, whole in done:
            self._leave(job, whole)

    # Coming and going.

    def _let_in(self) -> None:
        while self.waiting and len(self.reading) + len(self.writing) < self.rows:
            job = self.waiting[0]
            need = job.most_bytes
            if self._reserved and self._reserved + need > self.kv_bytes:
                return
            self.waiting.popleft()
            if self._alone(job, job.open):
                self._reserve(job, need)
                self.reading.append(job)

    def _alone(self, job: Job, action: Callable[[], object]) -> bool:
        """Does something for one request; where that fails, the request ends, and no other.

        Returns:
            Whether it was done.
        """
        try:
            action()
        except Exception as error:
            self.reading = [each for each in self.reading if each is not job]
            self.writing = [each for each in self.writing if each is not job]
            self._lose(job, error)
            return False
        return True

    def _reserve(self, job: Job, need: int) -> None:
        """Keeps so many bytes for a request in place of what was kept for it."""
        self._reserved += need - job.reserved
        job.reserved = need

    def _lose(self, job: Job, error: Exception) -> None:
        # The frames of the error hold what they worked on.
        clear_frames(error.__traceback__)
        job.release()
        self._reserve(job, 0)
        self._reasons["error"] += 1
        if not isinstance(error, LengthwiseError):
            said = f"the engine failed: {type(error).__name__}: {first_line(error)}"
            failed = EngineFailed(said)
            failed.__cause__ = error
            error = failed
        job.fail(error)

    def _break_off(self) -> None:
        """Ends what nobody waits for any more, and what has had its time."""
        for job in [job for job in self.waiting if job.cancelled or job.late]:
            self.waiting.remove(job)
            if self._alone(job, partial(job.end, CANCELLED if job.cancelled else DEADLINE)):
                self.writing.append(job)
        for job in [job for job in self.reading if job.cancelled or job.late]:
            self.reading.remove(job)
            self.writing.append(job)
        for job in self.writing:
            if job.request is not None and not job.request.done and (job.cancelled or job.late):
                job.end(CANCELLED if job.cancelled else DEADLINE)
        if any(job.request is not None and job.request.done for job in self.writing):
            self._settle()

    def _leave(self, job: Job, whole: Generation) -> None:
        metrics = whole.metrics
        self._reserve(job, 0)
        self.request_s += (time.perf_counter() - job.begin - self.request_s) / 8
        self._reasons[metrics.finish_reason] += 1
        self._accepted.update(metrics.accepted)
        self._counts.update(
            prompt_tokens=metrics.prompt_tokens, reused_tokens=metrics.reused_tokens,
            decoded_tokens=len(whole.token_ids), steps=metrics.steps, drafted=metrics.drafted,
        )  # fmt: skip

    def cancel_all(self) -> None:
        """Breaks off everything."""
        for job in [*self.waiting, *self.reading, *self.writing]:
            job.cancelled = True

    def fail_all(self, error: Exception) -> None:
        """Ends everything that runs, for a round that failed as none should.

        Args:
            error: what it raised.
        """
        jobs, self.reading, self.writing = [*self.reading, *self.writing], [], []
        for job in jobs:
            self._lose(job, error)

    def stats(self) -> Stats:
        """What is done and was done, as of the last round."""
        prefixes = self.model.prefix_cache
        held = None if prefixes is None else prefixes.stats
        return Stats(
            len(self.reading) + len(self.writing), len(self.waiting), self._kv_bytes, self.kv_bytes,
            0 if held is None else held.nbytes, 0 if held is None else held.capacity,
            0 if held is None else held.prompts, 0 if held is None else held.hits,
            accepted=dict(self._accepted), reasons=dict(self._reasons), **self._counts,
        )  # fmt: skip


__all__ = ["EngineFailed", "Scheduler", "Stats"]
