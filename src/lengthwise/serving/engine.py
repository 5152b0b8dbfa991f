"""The contract of the engine (a stand-in for main's file of the same name)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lengthwise.api.generation import Generation
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.recipes import Recipe


@dataclass(frozen=True)
class Ask:
    ids: list[int]
    recipe: Recipe
    max_new_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] | None = None
    logprobs: int | None = None
    deadline_s: float | None = None


@dataclass(frozen=True)
class TokenLogprob:
    token: int
    logprob: float
    top: list[tuple[int, float]]


@dataclass(frozen=True)
class Piece:
    text: str
    tokens: list[int]
    logprobs: list[TokenLogprob] = field(default_factory=list)
    done: Generation | LengthwiseError | None = None


class QueueFull(LengthwiseError):
    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(waiting, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"the queue is full; try again in {self.retry_after_s:.0f} s"


class Closing(LengthwiseError):
    def __str__(self) -> str:
        return "the server is shutting down"


@dataclass(frozen=True)
class Stats:
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


class Ticket:
    def cancel(self) -> None:
        raise NotImplementedError


class Engine:
    def submit(self, ask: Ask, told: Callable[[Piece], None]) -> Ticket:
        raise NotImplementedError

    def stats(self) -> Any:
        raise NotImplementedError

    def close(self, drain_s: float) -> None:
        raise NotImplementedError
