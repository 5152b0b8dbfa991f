"""Runs the texts of a batch job: prefixes are read once, rows join while KV bytes are left.

As BatchLLM (arXiv 2412.03594) has it: the prefix of a group is read once, its members go on from
it, and it is freed after the last of them. How many rows run is bounded by bytes and by no number
of rows. Groups that write much and read little come first, and later prompts are read chunk by
chunk between the steps of the rows that write: rows join until a forward's worth of prompts is
read, or memory is full.

Room is kept for the tokens that a row is expected to write (`OutputLengths`). Where rows write more
and memory is short, the newest of them gives up its entries and runs again later. Its text stays
the same, because noise belongs to positions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field, replace

from lengthwise._utils.messages import ran_out
from lengthwise.api.generation import Generation
from lengthwise.api.held_model import HeldModel
from lengthwise.api.session_reading import fresh_sequence, read_to, whole_blocks
from lengthwise.engine import loop
from lengthwise.engine.chunks import chunk_of
from lengthwise.engine.continuing import make_room, same_frequencies
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.prefix.cache import PrefixCache
from lengthwise.engine.request import Request
from lengthwise.errors import LengthwiseError, OutOfMemory, Refused
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import Recipe
from lengthwise.serving.batch_order import Order, Prefix, Text
from lengthwise.serving.batch_plan import LEAST, OutputLengths
from lengthwise.serving.job import Ask, Job, Piece
from lengthwise.serving.room import most_bytes, own_bytes

Told = Callable[[int, "list[Generation] | Exception"], None]
# Steps between two looks at how many bytes are held.
_LOOK = 8
# What entries take beside keys and values: birth ids, and room that is not used yet.
_SPARE = 1.1


@dataclass
class JobMetrics:
    """What a job cost. prompt_tokens: of all texts; read_tokens: those that were read, prefixes
    once. kv_peak_bytes: the most held at a moment. again: rows that gave up their entries and ran
    again."""

    texts: int = 0
    groups: int = 0
    prompt_tokens: int = 0
    read_tokens: int = 0
    written_tokens: int = 0
    steps: int = 0
    again: int = 0
    kv_peak_bytes: int = 0
    seconds: float = 0.0


@dataclass(eq=False)
class _Running:
    """A text that is being written."""

    text: Text
    job: Job
    request: Request


@dataclass
class BatchJob:
    """One run over many requests.

    model: that writes. kv_bytes: keys and values that may be held at once. told: called with the
    number of each request that is done, and its texts or why it has none. lengths: what is known of
    how much is written. chunk: tokens of a prefill forward. least: of the shortest shared prefix.
    planned: False is what the plan is measured against. Then texts run first come, first served,
    and share what the model's prefix cache holds.
    """

    model: HeldModel
    kv_bytes: int
    told: Told
    lengths: OutputLengths = field(default_factory=OutputLengths)
    chunk: int | None = None
    least: int = LEAST
    planned: bool = True
    metrics: JobMetrics = field(default_factory=JobMetrics)

    def __post_init__(self) -> None:
        self._order = Order(self.lengths, self.least, self.planned)
        self._running: list[_Running] = []
        self._reading: list[Sequence] = []
        self._open: set[Prefix] = set()
        self._since = 0
        self._fill = self.chunk or chunk_of(self.model.adapted.device, False)
        self._found: dict[int, list[Generation | None]] = {}

    @no_autocast()
    def run(self, requests: Seq[Seq[Ask]]) -> JobMetrics:
        """Runs requests to the end; each is told as it is done.

        Args:
            requests: the texts of each, at least one.

        Returns:
            What it cost.
        """
        begin = time.perf_counter()
        self._found = {number: [None] * len(asks) for number, asks in enumerate(requests)}
        texts = [Text(n, k, ask) for n, asks in enumerate(requests) for k, ask in enumerate(asks)]
        self._plan(texts)
        while (text := self._order.next()) is not None:
            self._join(text)
            # Who gives up its room while others are read comes again, and is waited for.
            while self._running and not self._order.more:
                self._step()
        self.metrics.seconds = time.perf_counter() - begin
        return self.metrics

    def _plan(self, texts: Seq[Text]) -> None:
        """Puts the texts of each recipe in groups, and all groups in order."""
        by_recipe: dict[str, list[Text]] = {}
        for text in texts:
            by_recipe.setdefault(str(text.ask.recipe), []).append(text)
        for alike in by_recipe.values():
            try:
                self._order.add(alike, self.model.plan(alike[0].ask.recipe))
            except LengthwiseError as error:
                for text in alike:
                    self._fail(text, error)
        self._order.sort()
        self.metrics.texts = len(texts)
        self.metrics.groups = self._order.groups
        self.metrics.prompt_tokens = sum(len(text.ask.ids) for text in texts)

    # Memory.

    def _bytes(self) -> int:
        """KV bytes held now."""
        of_rows = [each for running in self._running for each in running.request.sequences]
        found = own_bytes([*of_rows, *self._reading])
        found += sum(p.sequence.nbytes() for p in self._open if p.sequence is not None)
        if (cache := self._prefixes) is not None:
            found += cache.stats.nbytes
        self.metrics.kv_peak_bytes = max(self.metrics.kv_peak_bytes, found)
        return found

    def _need(self, text: Text) -> int:
        """Bytes that a text will take: its prompt and what it is expected to write, its prefix left
        aside where it is held by reference."""
        prefix = text.prefix
        assert prefix is not None
        model, plan, held = self.model.adapted, prefix.plan, prefix.sequence
        need = most_bytes(model, plan, len(text.ask.ids), self._order.expected(text))
        if held is None and prefix.left > 1:
            need += most_bytes(model, plan, prefix.group.prefix, 0)
        elif held is not None and plan.retention is None and plan.codec is None:
            # What drops or encodes at the end of the prompt takes a copy.
            need = max(0, need - _shared(held))
        return int(need * _SPARE)

    @property
    def _prefixes(self) -> PrefixCache | None:
        return None if self.planned else self.model.prefix_cache

    def _require_fits(self, text: Text, plan: Plan) -> None:
        """Refuses a prompt that cannot be held, whatever else is given up."""
        least = most_bytes(self.model.adapted, plan, len(text.ask.ids), 0)
        if least > self.kv_bytes:
            raise Refused(
                f"a prompt of {len(text.ask.ids):,} tokens takes {least / 1e6:,.1f} MB of keys and "
                f"values, and {self.kv_bytes / 1e6:,.1f} MB may be held",
                "give more with --kv-bytes, or a shorter prompt",
            )

    def _relieve(self) -> None:
        """Has the newest rows give up what they hold, while it is too much."""
        while self._bytes() > self.kv_bytes and len(self._running) + len(self._reading) > 1:
            if not self._running:
                return
            newest = self._running.pop()
            newest.text.said = max(newest.text.said, len(newest.request.output))
            self._order.again(newest.text)
            self.metrics.again += 1

    # Reading.

    def _join(self, text: Text) -> None:
        """Reads the prompt of a text beside those that write, and has it write with them."""
        prefix = text.prefix
        assert prefix is not None
        need = self._need(text)
        while self._running and self._bytes() + need > self.kv_bytes:
            self._step()
        try:
            self._require_fits(text, prefix.plan)
            self._reading = [self._held(text, prefix)]
            running = self._begin(text, prefix.plan)
        except Exception as error:
            # An error of one line, of whatever kind, is that line's.
            self._reading = []
            self._end(text, self._said_plainly(error, text))
            return
        self._reading = []
        self._running.append(running)
        self._settle()
        self._relieve()

    def _said_plainly(self, error: Exception, text: Text) -> Exception:
        if ran_out(error):
            return OutOfMemory(len(text.ask.ids), 0, str(self.model.adapted.device), error)
        return error

    def _begin(self, text: Text, plan: Plan) -> _Running:
        """Reads the prompt of a text on from what is held."""
        job = Job(self.model, plan, text.ask, lambda piece: self._hear(text, piece))
        (job.row.held,) = self._reading
        job.asked = replace(job.asked, prefixes=self._prefixes)
        job.open()
        assert job.request is not None
        while True:
            self._beside(job.read(self.chunk or job.chunk))
            if job.request.done or not job.left:
                return _Running(text, job, job.request)

    def _beside(self, tokens: int) -> None:
        """After every chunk of a prompt: a step of the rows that write, once prompts of as many
        tokens as fill a forward were read since the last. Before that more rows may join it."""
        self.metrics.read_tokens += tokens
        self._since += tokens
        if self._running and self._since >= self._fill:
            self._step()

    def _held(self, text: Text, prefix: Prefix) -> Sequence:
        """A sequence that has read the prefix of a text's group; an empty one without a prefix."""
        ids, recipe = text.ask.ids, text.ask.recipe
        room = len(ids) + int(self._order.expected(text))
        shared = self._read_prefix(prefix, ids, recipe) if prefix.left > 1 else prefix.sequence
        if shared is None or not len(shared) or not same_frequencies(shared, len(ids)):
            return fresh_sequence(self.model, prefix.plan, room)
        branch = shared.branch()
        make_room(branch, room - len(branch))
        return branch

    def _read_prefix(self, prefix: Prefix, ids: list[int], recipe: Recipe) -> Sequence:
        """Reads the prefix of a group, for the first of its members."""
        if prefix.sequence is None:
            length = prefix.group.prefix
            sequence = fresh_sequence(self.model, prefix.plan, length)
            end = whole_blocks(sequence, recipe, self.chunk, length)
            self._reading = [sequence]
            read_to(sequence, ids, end, self.chunk, self._beside)
            self._reading = []
            prefix.sequence = sequence
            self._open.add(prefix)
        return prefix.sequence

    # Writing.

    def _step(self) -> None:
        """One round of all rows that write."""
        said = loop.step([running.request for running in self._running], apart=True)
        for running, new in zip(self._running, said, strict=True):
            running.job.hear(new)
        self.metrics.steps += 1
        self._since = 0
        self._settle()
        if self.metrics.steps % _LOOK == 0:
            self._relieve()

    def _settle(self) -> None:
        """Lets go of rows that are done."""
        ended = [running for running in self._running if running.request.done]
        if ended:
            self._running = [running for running in self._running if not running.request.done]
        for running in ended:
            running.job.tell()

    def _hear(self, text: Text, piece: Piece) -> None:
        """A text is whole, or ended."""
        found = piece.done
        if found is None:
            return
        if isinstance(found, LengthwiseError):
            self._end(text, found)
        elif found.failed is not None:
            self._end(text, found.failed)
        else:
            self.lengths.add(text.ask.max_new_tokens, len(found.token_ids))
            self.metrics.written_tokens += len(found.token_ids)
            self._end(text, found)

    def _end(self, text: Text, found: Generation | Exception) -> None:
        """A text is done: its prefix goes with the last one, and its request is told."""
        self._order.done += 1
        prefix = text.prefix
        assert prefix is not None
        prefix.left -= 1
        if not prefix.left:
            prefix.sequence = None
            self._open.discard(prefix)
        if isinstance(found, Exception):
            self._fail(text, found)
            return
        texts = self._found.get(text.request)
        if texts is None:
            return
        texts[text.number] = found
        whole = [each for each in texts if each is not None]
        if len(whole) == len(texts):
            del self._found[text.request]
            self.told(text.request, whole)

    def _fail(self, text: Text, error: Exception) -> None:
        """A request of which one text cannot be written has no answer."""
        if self._found.pop(text.request, None) is not None:
            self.told(text.request, error)


def _shared(sequence: Sequence) -> int:
    """Bytes that a sequence holds by reference."""
    return sum(group.near.shared_bytes for _, group in sequence.groups())


__all__ = ["BatchJob", "JobMetrics"]
