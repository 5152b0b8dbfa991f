"""Several prompts, read and written on together: what `generate` and `custom_generate` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence as Seq
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from lengthwise.engine import loop
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.engine.steering import Steering
from lengthwise.errors import LengthwiseError, NotFinite, Refused
from lengthwise.models.adapt import Adapted
from lengthwise.models.limits import require_room
from lengthwise.text import TextStream


@dataclass
class Row:
    """One prompt: its tokens, how it is written on, and who is told. steering: see there."""

    tokens: Seq[int]
    sampling: Sampling
    sink: Callable[[str], None] | None = None
    steering: Steering | None = None


@dataclass(frozen=True)
class Written:
    """A row that is done, its books closed, and its text."""

    request: Request
    text: str


@dataclass(frozen=True)
class Asked:
    """What is asked of all rows of a batch. told: called with the requests after every round."""

    plan: Plan
    max_new_tokens: int
    stop_ids: Seq[int]
    stop: Seq[str] = ()
    chunk: int | None = None
    progress: loop.Progress | None = None
    told: Callable[[list[Request]], None] | None = None

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "chunk"):
            given = getattr(self, name)
            if given is not None and not _whole(given):
                raise LengthwiseError(f"{name}={given!r}: give a whole number")
            if given is not None and given < 1:
                raise LengthwiseError(f"{name}={given}: give at least 1")
        if not isinstance(self.stop_ids, Iterable) or not all(map(_whole, self.stop_ids)):
            raise LengthwiseError(f"stop_ids={self.stop_ids!r}: give a list of token ids")
        if isinstance(self.stop, str):
            raise LengthwiseError(f"stop={self.stop!r}: give a list of strings, [{self.stop!r}]")


def _whole(given: object) -> bool:
    return isinstance(given, (int, np.integer)) and not isinstance(given, bool)


def write(
    model: Adapted, tokenizer: PreTrainedTokenizerBase | None, rows: Seq[Row], asked: Asked
) -> list[Written | Refused]:
    """Reads every row and writes all of them on; raises before anything runs where it can.

    A row whose prompt the recipe cannot serve is not read, and has the reason in its place.
    """
    # A prompt that no recipe can serve takes the batch along, so all are looked at before any is
    # read.
    for row in rows:
        require_room(model, len(row.tokens), asked.max_new_tokens)
    refusals = [_refusal(asked.plan, len(row.tokens)) for row in rows]
    served = [(n, row) for n, row in enumerate(rows) if refusals[n] is None]
    begun = [_begin(model, tokenizer, row, asked, (number, len(rows))) for number, row in served]
    requests = [request for request, _ in begun]
    for (_, row), (request, text) in zip(served, begun, strict=True):
        _read(row, request, text, asked)
    _tell(asked, requests)
    while active := [pair for pair in begun if not pair[0].done]:
        for (request, text), new in zip(active, loop.step([r for r, _ in active]), strict=True):
            request.cut(len(new), text.add(new, request.ledger))
        _tell(asked, requests)
    written = iter([_finish(request, text) for request, text in begun])
    return [next(written) if refusal is None else refusal for refusal in refusals]


def _refusal(plan: Plan, length: int) -> Refused | None:
    """Why a plan cannot serve a prompt of `length` tokens, or None."""
    try:
        plan.check_prompt(length)
    except Refused as refusal:
        return refusal
    return None


def _begin(
    model: Adapted, tokenizer: PreTrainedTokenizerBase | None, row: Row, asked: Asked,
    number: tuple[int, int],
) -> tuple[Request, TextStream]:  # fmt: skip
    text = TextStream(tokenizer, asked.stop, row.sink)
    sequence = Sequence(model, asked.plan, expected=len(row.tokens) + asked.max_new_tokens)
    request = loop.begin(
        sequence, row.sampling, asked.max_new_tokens, asked.stop_ids, row.steering, number
    )
    return request, text


def _read(row: Row, request: Request, text: TextStream, asked: Asked) -> None:
    begin = time.perf_counter()
    sequence = request.sequence
    try:
        logits = loop.prefill(sequence, row.tokens, asked.chunk or loop.CHUNK, asked.progress)
        first = loop.start(request, logits)
    except NotFinite as error:
        error.row = request.sampler.row
        raise
    loop.synchronize(sequence.model.device)
    request.ledger.ttft_s = time.perf_counter() - begin
    request.ledger.prompt_tokens = len(row.tokens)
    text.add(first, request.ledger)


def _finish(request: Request, text: TextStream) -> Written:
    loop.finish(request)
    return Written(request, text.finish())


def _tell(asked: Asked, requests: Iterable[Request]) -> None:
    if asked.told is not None:
        asked.told(list(requests))
