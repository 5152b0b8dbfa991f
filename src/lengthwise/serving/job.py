"""One text that is asked for, from its prompt to its last piece."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from lengthwise.api.batch import Asked, Row, begin_row, finish_row, refusal, reuse, say_first
from lengthwise.api.generation import Generation, generation_of
from lengthwise.api.held_model import HeldModel
from lengthwise.engine import shortage
from lengthwise.engine.beside import Beside
from lengthwise.engine.chunks import chunk_of
from lengthwise.engine.continuing import read_on, unit
from lengthwise.engine.logprobs import TokenLogprob
from lengthwise.engine.losses import Losses
from lengthwise.engine.opening import CANCELLED
from lengthwise.engine.packed_prefill import packs
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.slices import Slices
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.recipes import Recipe
from lengthwise.serving.room import coming_bytes, most_bytes, own_bytes
from lengthwise.tokenization.detokenise import TextStream

# Why a text ended that took longer than it was given.
DEADLINE = "deadline"


@dataclass(frozen=True)
class Ask:
    """One text to be written.

    ids: token ids of the prompt. stop_ids: None is the model's own. logprobs: of how many of the
    likeliest tokens the log-probabilities are wanted beside each that is said; None wants none.
    echo: whether those of the prompt's tokens are wanted too.
    deadline_s: seconds from now on, waiting included.
    """

    ids: list[int]
    recipe: Recipe
    max_new_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] | None = None
    logprobs: int | None = None
    echo: bool = False
    deadline_s: float | None = None


@dataclass(frozen=True)
class Piece:
    """What a round gave of a text. Text may come later than its tokens: a stop string could begin
    in it. done: the whole, or why there is none; in the last piece alone. prompt: of the prompt's
    tokens, where they are wanted; in the first piece alone."""

    text: str
    tokens: list[int]
    logprobs: list[TokenLogprob] = field(default_factory=list)
    done: Generation | LengthwiseError | None = None
    prompt: list[TokenLogprob] = field(default_factory=list)


class Job:
    """An `Ask` on its way. told: called with every piece. cancelled: nobody wants it any more.

    asked, plan, row: of it as the engine takes them. unit: tokens that are read together, at least.
    slices: the chunk of its prompt that is under way. reserved: KV bytes kept for it. whole: what
    was told last. Raises LengthwiseError for what cannot run.
    """

    def __init__(
        self, model: HeldModel, plan: Plan, ask: Ask, told: Callable[[Piece], None]
    ) -> None:
        self.model, self.plan, self.ask, self.told = model, plan, ask, told
        self.cancelled = False
        self.begin = time.perf_counter()
        stop_ids = model.stop_ids() if ask.stop_ids is None else ask.stop_ids
        echoes = ask.echo and ask.logprobs is not None
        # What is wanted of a prompt's tokens is only known of those that are read.
        self._losses = Losses(likeliest=ask.logprobs) if echoes else None
        prefixes = None if echoes else model.prefix_cache
        self.asked = Asked(plan, ask.max_new_tokens, stop_ids, ask.stop, prefixes=prefixes)
        self._heard: list[str] = []
        sink = self._heard.append if model.tokenizer else None
        self.row = Row(ask.ids, ask.sampling, sink, plan=plan)
        if ask.logprobs is not None and plan.mode is not None:
            raise Refused(
                f"{plan.text} writes several texts at once, and logprobs are of one",
                "leave out logprobs, or the method that writes several",
            )
        refused = refusal(model.adapted, self.asked, self.row)
        if refused is not None:
            raise refused
        mode = None if plan.mode is None else plan.mode()
        self._texts = 1 if mode is None else mode.width
        self.request: Request | None = None
        self.whole: Generation | None = None
        self._text: TextStream | None = None
        self._told = self._held = 0
        self._looked = False
        self.unit = 1
        self.reserved = 0
        self.slices: Slices | None = None

    @property
    def late(self) -> bool:
        """Whether it has had the time it was given."""
        given = self.ask.deadline_s
        return given is not None and time.perf_counter() - self.begin > given

    @property
    def done(self) -> bool:
        """Whether its text has ended, if only for want of memory."""
        return self.request is not None and self.request.done

    @property
    def left(self) -> int:
        """Tokens of the prompt that are still to be read."""
        return len(self.ask.ids) - (0 if self.request is None else len(self.request.sequence))

    @cached_property
    def most_bytes(self) -> int:
        """KV bytes that it may come to hold."""
        adapted, new = self.model.adapted, self.ask.max_new_tokens
        return most_bytes(adapted, self.plan, len(self.ask.ids), new, self._texts)

    @property
    def bytes_to_hold(self) -> int:
        """KV bytes that it may come to hold by itself, as far as it is. The prefix cache answers
        for what is shared with it."""
        request, plan = self.request, self.plan
        assert request is not None
        sequence = request.sequence
        ended = sequence.prompt_length is not None
        shared = 0
        if ended or (plan.retention is None and plan.codec is None):
            # What drops or encodes at the end of the prompt takes a copy.
            shared = sum(group.near.shared_bytes for _, group in sequence.groups())
        most = max(0, self.most_bytes - shared)
        if not ended or request.mode is not None:
            return most
        coming = coming_bytes(sequence, self.ask.max_new_tokens - len(request.output))
        return min(most, own_bytes(request.sequences) + coming)

    # Reading.

    def open(self) -> None:
        """Makes ready to read."""
        adapted = self.model.adapted
        self.request, self._text = begin_row(
            adapted, self.model.tokenizer, self.row, self.asked, (0, 1)
        )
        self.request.wanted_logprobs = self.ask.logprobs
        self.request.metrics.prompt_tokens = len(self.ask.ids)
        sequence = self.request.sequence
        # What changes with the length of a prompt has to know it before the first chunk.
        sequence.reading = len(self.ask.ids)
        self._held = len(sequence)
        if not all(method.chunking_exact for method in self.ask.recipe.methods):
            self.unit = unit(sequence, None)

    def read(self, tokens: int) -> int:
        """Reads some of the prompt, and says the first token when it is through.

        Args:
            tokens: how many; where a recipe plans for several at once, whole blocks of them.

        Returns:
            How many were read.
        """
        assert self.request is not None
        part: Seq[int] = ()
        with shortage.losing(self.request):
            part = self._next(tokens)
            self._said(read_on(self.request.sequence, part, losses=self._losses))
        return len(part)

    def slice(self, tokens: int) -> bool:
        """Makes ready to read some of the prompt a few layers at a time.

        Args:
            tokens: how many.

        Returns:
            Whether it can be read so; `slices` holds it then.
        """
        assert self.request is not None
        with shortage.losing(self.request):
            part, sequence = self._next(tokens), self.request.sequence
            if self._losses is None and packs(sequence, part):
                slices = Slices(sequence, part)
                self.slices = slices if slices.possible else None
        return self.slices is not None

    def advance(self, seconds: float) -> Slices | None:
        """Reads through some layers.

        Args:
            seconds: to spend.

        Returns:
            The chunk where it is through.
        """
        request, slices = self.request, self.slices
        assert request is not None and slices is not None
        self.slices = None
        with shortage.losing(request):
            slices.advance(seconds)
            if not slices.done:
                self.slices = slices
            elif request.sequence.last_logits is not None:
                self._said(request.sequence.last_logits)
        return slices if slices.done else None

    def beside(self, tokens: int) -> Beside | None:
        """Some of the prompt, for a step of others to read: see `read`. `heed` takes it up.

        Args:
            tokens: how many.

        Returns:
            None where it has to be read by itself.
        """
        assert self.request is not None
        part: Seq[int] = ()
        with shortage.losing(self.request):
            part = self._next(tokens)
        sequence = self.request.sequence
        joins = self._losses is None and packs(sequence, part)
        return Beside(sequence, part) if joins else None

    def heed(self, beside: Beside) -> None:
        """Takes note of what a step has read.

        Args:
            beside: of this request.
        """
        assert self.request is not None
        with shortage.losing(self.request):
            if beside.error is not None:
                raise beside.error
            assert beside.sequence.last_logits is not None
            self._said(beside.sequence.last_logits)

    def _next(self, tokens: int) -> Seq[int]:
        """The next so many ids of the prompt."""
        request = self.request
        assert request is not None
        sequence, ids = request.sequence, self.ask.ids
        if not self._looked:
            # Not before: another may have read the beginning just now.
            self._looked, self._held = True, reuse(self.row, request, self.asked)
        count = min(self.left, max(self.unit, tokens // self.unit * self.unit))
        return ids[len(sequence) : len(sequence) + count]

    def _said(self, logits: Tensor) -> None:
        """Says the first token where the prompt is through."""
        request, text = self.request, self._text
        assert request is not None and text is not None
        if len(request.sequence) == len(self.ask.ids):
            say_first(request, text, logits, self.asked, self._held, self.begin)

    @property
    def chunk(self) -> int:
        """Tokens of a forward that reads nothing else."""
        return chunk_of(self.model.adapted.device, False)

    # Writing.

    def hear(self, new: list[int]) -> None:
        """Takes the tokens of a round.

        Args:
            new: as `loop.step` gave them.
        """
        assert self.request is not None and self._text is not None
        self.request.cut(len(new), self._text.add(new, self.request.metrics))

    def tell(self) -> None:
        """Says what is new; of a text that is done, all that is left, and that it is done. It has
        let go of its entries then."""
        piece = self._piece()
        if piece is not None:
            self.told(piece)

    def _piece(self) -> Piece | None:
        request = self.request
        assert request is not None and self._text is not None
        done: Generation | None = None
        if request.done:
            written = finish_row(request, self._text, self.asked)
            done = generation_of(self.row, written, self.model.tokenizer, self.ask.stop)
            self.whole = done
            self.release()
        output, start = request.output, self._told
        self._told = len(output)
        text = "".join(self._heard)
        self._heard.clear()
        if not text and len(output) == start and done is None:
            return None
        prompt = self._prompt() if not start else []
        return Piece(text, output[start:], request.logprobs[start:], done, prompt)

    def _prompt(self) -> list[TokenLogprob]:
        if self._losses is None:
            return []
        return [TokenLogprob(self.ask.ids[0], math.nan), *self._losses.told]

    def fail(self, error: LengthwiseError) -> None:
        """Says that there is no text.

        Args:
            error: why.
        """
        self.told(Piece("", [], done=error))

    def end(self, reason: str) -> None:
        """Breaks it off; what it has said stays.

        Args:
            reason: CANCELLED or DEADLINE.
        """
        if self.request is None:
            self.open()
        assert self.request is not None
        self.slices = None
        self.request.sequence.discard()
        self.request.metrics.finish_reason = reason

    def release(self) -> None:
        """Lets go of its entries at once, whoever still holds the job."""
        self.request = self._text = self.slices = self.row.held = None


__all__ = ["CANCELLED", "DEADLINE", "Ask", "Job", "Piece"]
