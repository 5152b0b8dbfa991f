"""A stand-in for the engine: it writes texts one at a time, in a thread, by `model.stream`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.serving.engine import Ask, Piece, QueueFull, Stats, TokenLogprob


class Ticket:
    def __init__(self, ask: Ask, told: Callable[[Piece], None]) -> None:
        self.ask, self.told = ask, told
        self.cancelled = threading.Event()
        self.over = False

    def cancel(self) -> None:
        if not self.over:
            self.cancelled.set()


class Double:
    """most: tickets that may wait. held: nothing is written until it is set."""

    def __init__(self, model: lengthwise.Model, most: int = 8) -> None:
        self.model, self.most = model, most
        self.tickets: list[Ticket] = []
        self.held = threading.Event()
        self.held.set()
        self.closed: float | None = None
        self._waiting: queue.Queue[Ticket | None] = queue.Queue()
        self.running = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, ask: Ask, told: Callable[[Piece], None]) -> Ticket:
        self.model.plan(ask.recipe)
        if self._waiting.qsize() >= self.most:
            raise QueueFull(self.most, 3.0)
        ticket = Ticket(ask, told)
        self.tickets.append(ticket)
        self._waiting.put(ticket)
        return ticket

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stats(self) -> Stats:
        return Stats(
            running=self.running, waiting=self._waiting.qsize(), accepted={"lookup": 3},
            reasons={"length": 2},
        )  # fmt: skip

    def close(self, drain_s: float = 0.0) -> None:
        self.closed = drain_s
        self.held.set()
        self._waiting.put(None)
        self._thread.join(drain_s)

    def _run(self) -> None:
        while (ticket := self._waiting.get()) is not None:
            self.running = 1
            self._write(ticket)
            ticket.over = True
            self.running = 0

    def _write(self, ticket: Ticket) -> None:
        ask = ticket.ask
        s = ask.sampling
        while not self.held.wait(0.01):
            if ticket.cancelled.is_set():
                return
        try:
            stream = self.model.stream(
                ask.ids, ask.recipe, max_new_tokens=ask.max_new_tokens, stop=ask.stop,
                stop_ids=ask.stop_ids, temperature=s.temperature, top_k=s.top_k, top_p=s.top_p,
                min_p=s.min_p, repetition_penalty=s.repetition_penalty, seed=s.seed,
            )  # fmt: skip
            with stream:
                for piece in stream:
                    if ticket.cancelled.is_set():
                        return
                    ticket.told(Piece(piece, [0], []))
            found = stream.generation
            ticket.told(Piece("", [], self._logprobs(ask, found.token_ids), found))
        except LengthwiseError as error:
            ticket.told(Piece("", [], [], error))

    def _logprobs(self, ask: Ask, ids: list[int]) -> list[TokenLogprob]:
        if ask.logprobs is None or not ids:
            return []
        found = self.model.score([*ask.ids, *ids], ask.recipe, prompt=len(ask.ids)).tolist()
        return [
            TokenLogprob(token, value, [(token, value)] * min(1, ask.logprobs))
            for token, value in zip(ids, found, strict=True)
        ]
