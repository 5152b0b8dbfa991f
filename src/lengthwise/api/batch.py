"""Several prompts, read and written on together: what `generate` and `custom_generate` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence as Seq
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lengthwise._utils.messages import ran_out
from lengthwise.api.given import require_count, texts, whole
from lengthwise.engine import loop, packed_prefill, shortage
from lengthwise.engine.continuing import read_on
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.opening import CANCELLED
from lengthwise.engine.plan import Plan
from lengthwise.engine.prefix.cache import PrefixCache, keeps, reading_of
from lengthwise.engine.reach import positions
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.steering import Steering
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.limits import require_room
from lengthwise.tokenization.detokenise import TextStream


@dataclass
class Row:
    """One prompt: its tokens, how it is written on, and who is told. steering: see there. plan: of
    its own recipe; None is the one of all. held: has read the first of the tokens already."""

    tokens: Seq[int]
    sampling: Sampling
    sink: Callable[[str], None] | None = None
    steering: Steering | None = None
    plan: Plan | None = None
    held: Sequence | None = None


@dataclass(frozen=True)
class Written:
    """A row that is done, its books closed, and its text."""

    request: Request
    text: str


@dataclass(frozen=True)
class Asked:
    """What is asked of all rows of a batch. stop: one string, or several. told: called with the
    requests after every round. cancelled: asked after every chunk and round whether to break off.
    prefixes: where prompts find what was read before them, and what they read is kept.
    """

    plan: Plan
    max_new_tokens: int
    stop_ids: Seq[int]
    stop: str | Seq[str] = ()
    chunk: int | None = None
    progress: loop.Progress | None = None
    told: Callable[[list[Request]], None] | None = None
    cancelled: Callable[[], bool] | None = None
    prefixes: PrefixCache | None = None

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "chunk"):
            given = getattr(self, name)
            if given is not None:
                require_count(name, given)
        # What can be gone through once only would be empty afterwards.
        ids = list(self.stop_ids) if isinstance(self.stop_ids, Iterable) else None
        if ids is None or not all(map(whole, ids)):
            raise LengthwiseError(f"stop_ids={self.stop_ids!r}: give a list of token ids")
        object.__setattr__(self, "stop_ids", ids)
        object.__setattr__(self, "stop", texts("stop", self.stop))
        if self.progress is not None and not callable(self.progress):
            raise LengthwiseError(f"progress={self.progress!r}: give a function of tokens read")


# A request, and the text it writes.
Begun = tuple[Request, TextStream]
# Rows whose prompts begin with as many common tokens that nobody has read yet wait for one of them.
SHARED = 64


class Cancelled(Exception):
    """Somebody broke a batch off in the midst of reading a prompt."""


class Batch:
    """Rows that are read, then written on together, round by round.

    Making one raises before anything runs where it can. A row whose prompt its recipe cannot serve
    is not read, and has the reason in its place; one whose logits are no numbers ends alone.
    """

    def __init__(
        self,
        model: AdaptedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        rows: Seq[Row],
        asked: Asked,
    ) -> None:
        self.asked = asked
        self.refusals = [refusal(model, asked, row) for row in rows]
        served = [(n, row) for n, row in enumerate(rows) if self.refusals[n] is None]
        self.rows = [row for _, row in served]
        self.begun = [
            begin_row(model, tokenizer, row, asked, (number, len(rows))) for number, row in served
        ]

    @property
    def active(self) -> list[Begun]:
        """The rows that are not done."""
        return [pair for pair in self.begun if not pair[0].done]

    def read(self) -> None:
        """Reads every prompt, short ones together, and says the first token of each. Raises
        Cancelled."""
        waiting = list(zip(self.rows, self.begun, strict=True))
        while waiting:
            now, waiting = _apart(waiting, self.asked)
            prompts = [_expected(row, request, self.asked) for row, (request, _) in now]
            for numbers in packed_prefill.bins(prompts, self.asked.chunk):
                if len(numbers) == 1:
                    _read(*now[numbers[0]], self.asked)
                else:
                    _read_together([now[n] for n in numbers], self.asked)
        self._tell()

    def step(self) -> None:
        """One round of all rows that are not done."""
        active = self.active
        found = loop.step([request for request, _ in active], apart=True)
        for (request, text), new in zip(active, found, strict=True):
            request.cut(len(new), text.add(new, request.metrics))
        self._tell()

    def cancel(self) -> None:
        """Breaks off the rows that are not done; what they have said stays."""
        for request, _ in self.active:
            request.sequence.discard()
            request.metrics.finish_reason = CANCELLED

    def finish(self) -> list[Written | Refused]:
        """Closes the books of all rows."""
        written = iter([finish_row(request, text, self.asked) for request, text in self.begun])
        return [next(written) if refusal is None else refusal for refusal in self.refusals]

    def _tell(self) -> None:
        if self.asked.told is not None:
            self.asked.told([request for request, _ in self.begun])


def write(
    model: AdaptedModel, tokenizer: PreTrainedTokenizerBase | None, rows: Seq[Row], asked: Asked
) -> list[Written | Refused]:
    """Reads every row and writes all of them on, to the end.

    Args:
        model: that writes.
        tokenizer: the model's; None where there is neither stop string nor sink.
        rows: one a prompt.
        asked: what holds for all of them.

    Returns:
        For each row what it wrote, or why its recipe cannot serve the prompt.
    """
    batch = Batch(model, tokenizer, rows, asked)
    batch.read()
    while batch.active:
        batch.step()
    return batch.finish()


def refusal(model: AdaptedModel, asked: Asked, row: Row) -> Refused | None:
    """Why a row cannot be served, or None.

    Args:
        model: that would write.
        asked: of all rows.
        row: in question.
    """
    try:
        taken = len(row.tokens) if row.held is None else positions(row.held, len(row.tokens))
        require_room(model, taken, asked.max_new_tokens)
        apart = row.held is not None and row.held.apart is not None
        (row.plan or asked.plan).check_prompt(taken, apart)
    except Refused as error:
        return error
    return None


def begin_row(
    model: AdaptedModel, tokenizer: PreTrainedTokenizerBase | None, row: Row, asked: Asked,
    number: tuple[int, int],
) -> Begun:  # fmt: skip
    """A request that has read nothing of its row's prompt, and the text it will have.

    Args:
        model: that writes.
        tokenizer: see `write`.
        row: its prompt and how it is written on.
        asked: of all rows.
        number: of how many rows it is which.
    """
    text = TextStream(tokenizer, asked.stop, row.sink)
    expected = len(row.tokens) + asked.max_new_tokens
    sequence = row.held
    if sequence is None:
        sequence = Sequence(model, row.plan or asked.plan, expected=expected)
    request = loop.begin(
        sequence, row.sampling, asked.max_new_tokens, asked.stop_ids, row.steering, number
    )
    return request, text


def _apart(
    rows: Seq[tuple[Row, Begun]], asked: Asked
) -> tuple[list[tuple[Row, Begun]], list[tuple[Row, Begun]]]:
    """Rows that may be read now, and those that wait: what they begin with is read by one of the
    others, and will be held then."""
    prefixes, now, later = asked.prefixes, [], []
    begun: set[Hashable] = set()
    for row, (request, text) in rows:
        reading: Hashable | None = None
        if prefixes is not None and not len(request.sequence):
            reading = reading_of(request.sequence, len(row.tokens))
        if prefixes is not None and reading is not None:
            known = prefixes.peek(request.sequence, row.tokens)
            beginning = (reading, *row.tokens[: known + SHARED])
            if len(row.tokens) > known + SHARED and beginning in begun:
                later.append((row, (request, text)))
                continue
            if keeps(request.sequence):
                begun.add(beginning)
        now.append((row, (request, text)))
    return now, later


def _expected(row: Row, request: Request, asked: Asked) -> packed_prefill.Prompt:
    """What will have to be read of a row, as far as is known before `reuse`."""
    sequence = request.sequence
    held = len(sequence)
    if asked.prefixes is not None and not held:
        held = asked.prefixes.peek(sequence, row.tokens)
    return sequence, row.tokens[held:]


def _read(row: Row, begun: Begun, asked: Asked) -> None:
    """Reads a prompt. Raises Cancelled, after a chunk of it."""
    begin = time.perf_counter()
    request, text = begun
    request.metrics.prompt_tokens = len(row.tokens)
    with shortage.losing(request):
        held = reuse(row, request, asked)
        told = partial(_told, asked)
        logits = read_on(request.sequence, row.tokens[held:], asked.chunk, told)
        say_first(request, text, logits, asked, held, begin)


def _read_together(rows: Seq[tuple[Row, Begun]], asked: Asked) -> None:
    """Reads prompts in one forward; each has its first token when it is chosen. Raises Cancelled,
    after the forward."""
    begin = time.perf_counter()
    prompts: list[packed_prefill.Prompt] = []
    together: list[tuple[Row, Begun, int]] = []
    for row, (request, text) in rows:
        with shortage.losing(request):
            held = reuse(row, request, asked)
            prompt = request.sequence, row.tokens[held:]
            # What was held a moment ago may have left meanwhile.
            if packed_prefill.packs(*prompt, asked.chunk):
                prompts.append(prompt)
                together.append((row, (request, text), held))
            else:
                _read(row, (request, text), asked)
    if not prompts:
        return
    try:
        read = packed_prefill.read_together(prompts)
    except Exception as error:
        if not ran_out(error):
            raise
        # Alone there may be memory for each; one for which there is none ends alone.
        for row, begun, _ in together:
            _read(row, begun, asked)
        return
    _told(asked, sum(len(tokens) for _, tokens in prompts))
    for (row, (request, text), held), logits in zip(together, read, strict=True):
        request.metrics.prompt_tokens = len(row.tokens)
        with shortage.losing(request):
            if isinstance(logits, Exception):
                raise logits
            say_first(request, text, logits, asked, held, begin)


def _told(asked: Asked, tokens: int) -> None:
    """Says that so many tokens were read. Raises Cancelled where nobody waits for more."""
    if asked.progress is not None:
        asked.progress(tokens)
    if asked.cancelled is not None and asked.cancelled():
        raise Cancelled


def reuse(row: Row, request: Request, asked: Asked) -> int:
    """Gives a request what of its prompt was read before.

    Args:
        row: its prompt.
        request: which may have read some of it.
        asked: of all rows.

    Returns:
        Tokens that need not be read.
    """
    if asked.prefixes is not None and not len(request.sequence):
        asked.prefixes.attach(request.sequence, row.tokens)
    return len(request.sequence)


def say_first(
    request: Request, text: TextStream, logits: Tensor, asked: Asked, held: int, begin: float
) -> None:
    """Ends the prompt of a request, and says its first token.

    Args:
        request: which has read its prompt.
        text: it is told.
        logits: `[vocab]` after the prompt.
        asked: of all rows.
        held: tokens that were not read again.
        begin: when the prompt came, of `time.perf_counter`.
    """
    sequence, metrics = request.sequence, request.metrics
    # A model may have had to read all of it again, with other frequencies.
    metrics.reused_tokens = 0 if held and any(at >= held for at in sequence.read_again) else held
    if asked.prefixes is not None:
        asked.prefixes.insert(sequence)
    first = loop.start(request, logits)
    loop.synchronize(sequence.model.device)
    metrics.ttft_s = time.perf_counter() - begin
    request.cut(len(first), text.add(first, metrics))


def finish_row(request: Request, text: TextStream, asked: Asked) -> Written:
    """Closes the books of a row.

    Args:
        request: which is done.
        text: what it said.
        asked: of all rows.
    """
    loop.finish(request)
    # What a mode fed were mixtures, and no tokens that another prompt could have.
    if asked.prefixes is not None and request.mode is None:
        asked.prefixes.insert(request.sequence, over=True)
    return Written(request, text.finish())
