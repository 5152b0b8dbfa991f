"""A saved session that comes in over a link: chunk by chunk, at the quality the deadline allows.

What is saved with `cachegen(level=all)` holds every chunk at every level. While one chunk is
decoded the next arrives, at the level that `stream_control` chose. A chunk that would come too late
is not sent: its text, which is in the file's beginning, is read instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch

from lengthwise.api.held_model import HeldModel
from lengthwise.api.ranges import Ranges, Source, name_of
from lengthwise.api.session import Session
from lengthwise.api.session_codec import Coded, shown_level
from lengthwise.api.session_file import (
    lossy_name,
    manifest_of,
    one_error,
    require_ours,
    session_of,
)
from lengthwise.api.session_reading import fresh_sequence, read_to
from lengthwise.api.stream_control import TEXT, Rates, Remaining, choose
from lengthwise.engine.kv_cache.arriving import join, plain_entries, settle
from lengthwise.engine.kv_cache.packing import Damaged, Unstorable, unpack
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.errors import SessionError
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import RecipeLike

# Tokens that are read to find out how fast that is, where nobody says.
_SAMPLE = 64
# Beside its numbers a chunk holds tables of distributions.
_TABLES = 1 << 22
Clock = Callable[[], float]


@dataclass(frozen=True)
class Arrived:
    """A chunk of a session that is here.

    Attributes:
        start: its first token.
        stop: the first token behind it.
        level: of quality, 4 for lossless; 0 where its text was read.
        size: bytes that came for it.
        seconds: since the beginning.
    """

    start: int
    stop: int
    level: int
    size: int
    seconds: float


@no_autocast()
def stream_session(
    source: Source, model: HeldModel, deadline_s: float, recipe: RecipeLike | None = None, *,
    bandwidth: float | None = None, read_rate: float | None = None,
    on_chunk: Callable[[Arrived], None] | None = None, clock: Clock = time.monotonic,
) -> Session:  # fmt: skip
    """Loads a session that was saved with `cachegen(level=all)`, in time and as well as that goes.

    Args:
        source: a path, or a function of offset and length that gives the bytes of the file there.
        model: the model that read it, in the same dtype.
        deadline_s: seconds from now in which the session is to be here.
        recipe: as for `open_session`.
        bandwidth: bytes a second that are expected before the first chunk; None is unknown.
        read_rate: tokens a second that the model reads; None measures it, 0 reads no text.
        on_chunk: called with each chunk that is here.
        clock: seconds, from any moment on.

    Returns:
        The session. Its `notes` say which chunks came at which level, and whether it was in time.

    Raises:
        SessionError: as `open_session`, for a session that holds more than keys and values, and
            where the source gives less than it was asked for.
    """
    begin = clock()
    if not deadline_s > 0:
        raise SessionError(f"a deadline of {deadline_s} s; give seconds above 0")
    name = name_of(source)
    with one_error(name):
        ranges = Ranges(source, name)
        manifest = manifest_of(name, ranges.metadata)
        chosen = require_ours(name, manifest, model, recipe)
        state = json.loads(ranges.data("state"))
        if "coded" not in state:
            raise SessionError("was saved without a codec; save it with cachegen(level=all)")
        if {"trained", "soft"} & state["source"].keys():
            raise SessionError(
                "cannot be streamed: what was trained has no text that could be read instead; "
                "open it with open_session"
            )
        tokens = [int(i) for i in ranges.get("tokens").tolist()]
        loading = _Loading(ranges, state, tokens, model, model.plan(chosen), clock)
        loading.rates = Rates(bandwidth, read_rate or None)
        loading.run(begin, deadline_s, read_rate is None, on_chunk)
        if loading.read_all:
            state["stale"] = ""
        session = session_of(state, loading.sequence, tokens, model, chosen)
    session.notes.append(loading.report(clock() - begin, deadline_s))
    return session


class _Loading:
    """One session on its way. rates: as measured so far."""

    def __init__(
        self, ranges: Ranges, state: dict[str, Any], tokens: list[int], model: HeldModel,
        plan: Plan, clock: Clock,
    ) -> None:  # fmt: skip
        self.rates = Rates()
        self.sequence = fresh_sequence(model, plan, len(tokens))
        self._ranges, self._model, self._plan, self._clock = ranges, model, plan, clock
        self._state = state
        self._data: dict[str, Any] = state["sequence"]
        self._coded = Coded.read(state["coded"], model.adapted, len(tokens))
        self._tokens = tokens[: max(self._coded.counts, default=0)]
        size = model.adapted.vocab_size
        if not all(0 <= token < size for token in tokens):
            raise Damaged("token ids are outside the vocabulary")
        self._layers = self._layout()
        self._sizes = [self._sizes_of(chunk) for chunk in range(self._coded.chunks)]
        self._taken: list[int] = []
        self._came = 0

    def _layout(self) -> list[tuple[int, int]]:
        """Places of the key and the value of every layer among what is coded."""
        try:
            names = plain_entries(self._data)
        except Unstorable as error:
            raise SessionError(f"cannot be streamed: {error}; open it with open_session") from None
        if len(names) != len(self.sequence.layers) or set(self._coded.counts) != {
            len(self._tokens)
        }:
            raise Damaged("its layers hold other tokens than it has read")
        births = {self._name(index) for _, _, index in names}
        whole_text = torch.arange(len(self._tokens), dtype=torch.int32)[None]
        held = self._ranges.size(self._name(self._data["tokens"]["tensor"])) // 8
        whole = held == len(self._tokens)
        if not whole or not all(torch.equal(self._ranges.get(b), whole_text) for b in births):
            raise SessionError("cannot be streamed: it left out tokens; open it with open_session")
        place = {name: number for number, name in enumerate(self._coded.names)}
        found = [(place[key], place[value]) for key, value, _ in names]
        kinds = [(layer, kind) for layer in range(len(found)) for kind in ("key", "value")]
        planes = [self._coded.planes[each] for pair in found for each in pair]
        heads = [layer.num_kv_heads for layer in self._model.adapted.layers]
        if [(p.layer, p.kind, p.heads) for p in planes] != [(n, k, heads[n]) for n, k in kinds]:
            raise Damaged("its layers hold the entries of others")
        return found

    def _name(self, name: str) -> str:
        """The name under which a tensor stands in the file, which may be that of its double."""
        return str(self._state.get("same", {}).get(name, name))

    def _sizes_of(self, chunk: int) -> dict[int, int]:
        start, stop = self._span(chunk)
        numbers = sum(plane.channels for plane in self._coded.planes) * (stop - start)
        found = {
            level: self._ranges.size(self._coded.piece(chunk, level))
            for level in self._coded.levels
        }
        if max(found.values()) > 4 * numbers + _TABLES:
            raise Damaged("a chunk of it is larger than its entries")
        return found

    def _span(self, chunk: int) -> tuple[int, int]:
        start = chunk * self._coded.chunk
        return start, min(len(self._tokens), start + self._coded.chunk)

    def run(
        self, begin: float, deadline: float, measure: bool,
        on_chunk: Callable[[Arrived], None] | None,
    ) -> None:  # fmt: skip
        """Loads all chunks; on_chunk is told of each. begin: when the deadline began to run."""
        self.sequence.reading = int(self._data["reading"])
        self.sequence.read_with = int(self._data["read_with"])
        pool, end = ThreadPoolExecutor(1), begin + deadline
        try:
            coming = self._ask(pool, 0, end)
            if measure:
                self._measure()
            for chunk in range(len(self._sizes)):
                level, arriving = coming
                data = b""
                if arriving is not None:
                    data, bandwidth = arriving.result()
                    self.rates = replace(self.rates, bandwidth=bandwidth)
                if chunk + 1 < len(self._sizes):
                    coming = self._ask(pool, chunk + 1, end, self._busy(chunk, level))
                self._take(chunk, level, data)
                if on_chunk is not None:
                    now = self._clock() - begin
                    on_chunk(Arrived(*self._span(chunk), level, len(data), now))
        finally:
            # A read that hangs is not waited for.
            pool.shutdown(wait=False, cancel_futures=True)
        self._settle()

    def _ask(
        self, pool: ThreadPoolExecutor, chunk: int, end: float, busy: float = 0.0
    ) -> tuple[int, Future[tuple[bytes, float]] | None]:
        """Chooses how a chunk comes, and sends for it."""
        sizes = {
            level: sum(each[level] for each in self._sizes[chunk:]) for level in self._coded.levels
        }
        rest = Remaining(len(self._tokens) - self._span(chunk)[0], sizes)
        level = choose(rest, end - self._clock(), self.rates, busy)
        return level, None if level == TEXT else pool.submit(self._fetch, chunk, level)

    def _fetch(self, chunk: int, level: int) -> tuple[bytes, float]:
        """The bytes of a chunk, and how many came a second."""
        begin = self._clock()
        data = self._ranges.data(self._coded.piece(chunk, level))
        return data, len(data) / max(self._clock() - begin, 1e-9)

    def _busy(self, chunk: int, level: int) -> float:
        """Seconds that a chunk which is here will take."""
        rate = self.rates.reading if level == TEXT else self.rates.decoding
        start, stop = self._span(chunk)
        return (stop - start) / rate if rate else 0.0

    def _take(self, chunk: int, level: int, data: bytes) -> None:
        """Decodes a chunk, or reads its text."""
        (start, stop), begin = self._span(chunk), self._clock()
        if level == TEXT:
            read_to(self.sequence, self._tokens, stop, self._state["chunk"])
        else:
            found = self._coded.decode(data, chunk, level, self._model.adapted.dtype)
            entries = [(found[key], found[value]) for key, value in self._layers]
            join(self.sequence, self._tokens[start:stop], entries)
        rate = (stop - start) / max(self._clock() - begin, 1e-9)
        changed = {"reading": rate} if level == TEXT else {"decoding": rate}
        self.rates = replace(self.rates, **changed)
        self._taken.append(level)
        self._came += len(data)

    def _measure(self) -> None:
        """Finds how fast text is read, while the first chunk arrives."""
        part = self._tokens[:_SAMPLE]
        trial: Sequence = fresh_sequence(self._model, self._plan, len(part))
        begin = self._clock()
        read_to(trial, part, len(part), None)
        rate = len(part) / max(self._clock() - begin, 1e-9)
        self.rates = replace(self.rates, reading=rate)

    def _settle(self) -> None:
        last = None
        if self._taken[-1] != TEXT:

            def read(name: str) -> torch.Tensor:
                return self._ranges.get(self._name(name)).to(self._model.adapted.device)

            last = unpack(self._data["last_logits"], read, {})
        settle(self.sequence, self._data, last)
        lost = lossy_name(self._taken)
        before = "" if self.read_all else str(self._data.get("lossy", ""))
        self.sequence.lossy = ", ".join(filter(None, [before, lost]))

    @property
    def read_all(self) -> bool:
        """Whether all of it was read as text, and nothing is held that came through the file."""
        return set(self._taken) == {TEXT}

    def report(self, seconds: float, deadline: float) -> str:
        """What came, in one line. seconds: it took."""
        said = ", ".join("text" if each == TEXT else shown_level(each) for each in self._taken)
        late = "" if seconds <= deadline else f", {seconds - deadline:.2f} s too late"
        return (
            f"{self._came / 1e6:.1f} MB came in {seconds:.2f} s of {deadline:g}{late}; chunks at "
            f"levels {said}"
        )


__all__ = ["Arrived", "stream_session"]
