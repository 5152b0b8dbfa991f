"""A session: what was read once, to be asked many times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence as Seq
from os import PathLike
from typing import Any, Unpack

import torch
from torch import Tensor

from lengthwise.api.asking import close_batch, open_batch
from lengthwise.api.batch import Batch, Row
from lengthwise.api.generation import NEW_TOKENS, BatchOptions, Generation, Options
from lengthwise.api.given import known_options, require_count, shown_as
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt
from lengthwise.api.session_codec import CodecLike, codec_of
from lengthwise.api.session_editing import Held, edit_held
from lengthwise.api.session_prompt import behind
from lengthwise.api.session_reading import (
    beginning,
    fresh_sequence,
    read_to,
    refuse_by_length,
    require_session_room,
    whole_blocks,
)
from lengthwise.api.session_source import source_of
from lengthwise.api.session_state import SessionState
from lengthwise.api.session_writing import write_session
from lengthwise.api.streams import Stream
from lengthwise.engine import loop
from lengthwise.engine.continuing import make_room, same_frequencies
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import whole
from lengthwise.errors import LengthwiseError, SessionError
from lengthwise.models.limits import require_positions
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import Recipe


class Session(SessionState):
    """The KV cache of what was read, with its tokens and recipe. Made by `Model.read`.


    Asking leaves it as it was: each question works on a copy. `len` is the tokens that were read.

    The prompt is left open, so a question gets what one call with the whole prompt gives. What a
    recipe drops or encodes at the end of a prompt it does then, on the copy. `compress` does it
    at once, without a question.
    """

    # Asking.

    @known_options
    def ask(
        self,
        question: Prompt,
        *,
        max_new_tokens: int = NEW_TOKENS,
        stream: Callable[[str], None] | None = None,
        stop: str | Seq[str] = (),
        stop_ids: Seq[int] | None = None,
        progress: loop.Progress | None = None,
        special: str | None = None,
        assistant_model: Any = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> Generation:
        """Answers a question about what was read; the session stays as it was.

        Args:
            question: a string; behind token ids also token ids.
            max_new_tokens: how many are written at most.
            stream: called with each piece of text as it comes.
            stop: a string that ends the text and is left out of it, or several.
            stop_ids: ids that end the text; None: the model's own.
            progress: called with tokens read.
            special: see `Model.encode`.
            assistant_model: a second model that guesses.
            temperature: 0 is greedy.
            top_k: sample among the k likeliest, 0 for all.
            top_p: sample among the likeliest that make up p.
            min_p: leave out those below this share of the likeliest.
            repetition_penalty: 1 is none.
            seed: an integer of 64 bits.

        Returns:
            As `Model.generate`; `metrics.reused_tokens` of the prompt were not read again.

        Raises:
            LengthwiseError: for an empty question, and as `Model.generate` does.
            SessionError: where the model has changed since.
        """
        batch, rows = self._open(
            [question], None if stream is None else [stream], None,
            max_new_tokens=max_new_tokens, stop=stop, stop_ids=stop_ids, progress=progress,
            special=special, assistant_model=assistant_model, temperature=temperature,
            top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty,
            seed=seed,
        )  # fmt: skip
        with no_autocast():
            batch.read()
            while batch.active:
                batch.step()
            return close_batch(self.model, batch, rows)[0].require()

    @shown_as(ask, without=("stream", "seed"))
    @no_autocast()
    def ask_batch(
        self,
        questions: Seq[Prompt],
        *,
        streams: Seq[Callable[[str], None]] | None = None,
        seed: int | Seq[int] = 0,
        **options: Unpack[BatchOptions],
    ) -> list[Generation]:
        """Answers several questions at once: each step reads what was read once, for all of them.

        Args:
            questions: a list of them, each as for `ask`.
            streams: None, or one function for each question, called with the pieces of its answer.
            seed: one for all, or a list with one for each question.
            **options: as in `ask`.

        Returns:
            What `ask` gives for each, in their order. One that cannot be served says so in
                `refused`, and one that ends before its time in `failed`; the others go on.

        Raises:
            LengthwiseError: before anything runs, as `ask` does; also for no list of questions.
            SessionError: where the model has changed since.
        """
        if isinstance(questions, (str, Mapping)) or not isinstance(questions, Iterable):
            raise LengthwiseError(
                f"questions of type {type(questions).__name__}: give a list of questions, or one "
                "to ask"
            )
        asked = list(questions)
        if not asked:
            return []
        batch, rows = self._open(asked, streams, None, seed=seed, **options)
        batch.read()
        while batch.active:
            batch.step()
        return close_batch(self.model, batch, rows)

    @shown_as(ask, without=("stream",))
    def stream(self, question: Prompt, **options: Unpack[Options]) -> Stream:
        """The answer piece by piece: `for piece in session.stream("Who signed it?")`.

        Args:
            question: as for `ask`.
            **options: as for `ask`.

        Returns:
            The stream, whose `generation` is what `ask` would have returned.

        Raises:
            LengthwiseError: as `ask` does.
        """
        opened: list[Row] = []

        def begin(sink: Callable[[str], None], stopped: Callable[[], bool]) -> Batch:
            batch, rows = self._open([question], [sink], stopped, **options)
            opened.extend(rows)
            return batch

        return Stream(begin, lambda batch: close_batch(self.model, batch, opened)[0])

    def _open(
        self, questions: Seq[Prompt], sinks: Seq[Callable[[str], None]] | None,
        stopped: Callable[[], bool] | None, seed: int | Seq[int] = 0,
        **options: Unpack[BatchOptions],
    ) -> tuple[Batch, list[Row]]:  # fmt: skip
        self.require_same_model()
        new = options.get("max_new_tokens", NEW_TOKENS)
        require_count("max_new_tokens", new)
        prompts, held, notes = [], [], []
        for question in questions:
            given = question.strip() if isinstance(question, str) else question
            if given is None or (hasattr(given, "__len__") and not len(given)):
                raise LengthwiseError("the question is empty; say what you want to know")
            ids = self._source.ask(self.model, question, options.get("special"))
            sequence, note = self._held(ids, len(ids) - len(self._sequence) + new)
            prompts.append(ids)
            held.append(sequence)
            notes.append(note)
        chunk: Any = {"chunk": self._chunk, **options}
        batch, rows = open_batch(
            self.model, prompts, self._recipe, seed, sinks, stopped, held=held, **chunk
        )
        served = [n for n, refused in zip(notes, batch.refusals, strict=True) if refused is None]
        for (request, _), note in zip(batch.begun, served, strict=True):
            request.metrics.notes += filter(None, [note or self.stale_note])
        return batch, rows

    def _held(self, ids: Seq[int], room: int) -> tuple[Sequence, str]:
        """A copy of what is held, as far as it is the beginning of a prompt and read as its would
        be; an empty sequence otherwise, and what is to be said of that."""
        held = self._sequence
        if not self.compressed and not same_frequencies(held, len(ids)):
            note = (
                f"{self.recipe} has other frequencies for {len(ids):,} tokens than for what was "
                "read: all was read again; positions that do not follow the length, such as "
                "yarn's or those of dynamic_ntk(length=N), save that"
            )
        elif (fork := beginning(held, ids, self._recipe, self._chunk)) is not None and (
            len(fork) == len(held) or self._may_be_cut
        ):
            make_room(fork, room + len(held) - len(fork))
            return fork, ""
        else:
            note = (
                "what was read ends otherwise in this text, and what is held of it cannot be "
                "rolled back: all of it was read again"
            )
        if self._source.trained is not None:
            raise SessionError(
                f"the entries of {self._source.what} cannot be read again, and its file, its "
                "tokenizer or what is appended wants other tokens than it holds; make it again, or "
                "go on from the file as it was written"
            )
        return fresh_sequence(self.model, whole(held.plan), len(ids) + room), note

    # What is held.

    def fork(self) -> Session:
        """A session of its own that holds the same: neither sees what is done to the other."""
        self.require_same_model()
        new = Session(
            self.model, self._recipe, self._source, self._sequence.branch(), list(self._tokens),
            self._chunk, self._stale,
        )  # fmt: skip
        new.notes = list(self.notes)
        return new

    @no_autocast()
    def append(self, text: Any, progress: loop.Progress | None = None) -> None:
        """Reads more: a text behind a text, messages behind messages, ids or a text behind ids.

        Args:
            text: what comes behind all that was read.
            progress: called with tokens read.

        Raises:
            LengthwiseError: for nothing, for what does not go behind what was read, and where the
                recipe cannot serve as much.
            SessionError: where the model has changed since.
        """
        self.require_same_model()
        source = self._source.more(self.model, text)
        tokens, stable = source.prefix(self.model)
        plan = whole(self._sequence.plan)
        require_session_room(self.model, plan, len(tokens), self._sequence)
        held, note = self._held(tokens, len(tokens) - len(self._sequence))
        if self.compressed:
            end = len(tokens)
        else:
            end = whole_blocks(held, self._recipe, self._chunk, stable)
        read_to(held, tokens, end, self._chunk, progress)
        if self.compressed:
            held.end_prefill()
        self._sequence, self._source, self._tokens = held, source, tokens
        if note:
            self.notes.append(note)
            self._stale = None

    @no_autocast()
    def edit(self, span: tuple[int, int], text: Any, *, exact: bool = False) -> None:
        """Replaces a part of what was read: only the edit is read, and what follows is moved. That
        is lossy, for what follows never saw it; `lossy` and every answer's notes say so.

        Args:
            span: start and stop of what goes, in characters of the text, or in ids of given ids.
            text: what comes in its place; empty to delete, and with start = stop it is inserted.
            exact: read again from the edit on instead, as one call would.

        Raises:
            LengthwiseError: for a span outside what was read, and for messages.
            Refused: where the recipe's or the model's entries cannot be moved.
            SessionError: where the model has changed since.
        """
        self.require_same_model()
        old = Held(self._source, self._tokens, self._sequence, self._stale)
        new = edit_held(self.model, self._recipe, old, span, text, exact, self._chunk)
        self._source, self._tokens, self._sequence = new.source, new.tokens, new.sequence
        self._stale = new.stale

    @no_autocast()
    def compress(self) -> None:
        """Ends the prompt: the recipe drops and encodes now what it drops and encodes.

        From then on questions are fed as decoding would: what is kept does not depend on them, and
        is held once. Sessions of recipes that do neither stay what they are.

        Nothing is copied for it. A session in which it is broken off is not to be used any more.
        """
        self.require_same_model()
        if self.compressed:
            return
        require_session_room(self.model, whole(self._sequence.plan), len(self) - 1, self._sequence)
        # Until it is through, some layers are what they will be, and others what they were.
        self._broken = True
        read_to(self._sequence, self._tokens, len(self._tokens), self._chunk)
        self._sequence.end_prefill()
        self._broken = False

    @no_autocast()
    def score(self, ids: Prompt) -> Tensor:
        """Log-probabilities of tokens behind what was read, fed as decoding would.

        Args:
            ids: one or more, or a text.

        Returns:
            float32 `[n]`, what `Model.score(tokens + ids, recipe, prompt=len(tokens))` gives.

        Raises:
            LengthwiseError: for none, and for ids outside the vocabulary.
            NotFinite: where the model's logits are no numbers.
            SessionError: where the model has changed since.
        """
        self.require_same_model()
        asked = behind(self.model, ids)
        if self._sequence.apart is not None and len(self) == self._sequence.apart.stop:
            raise LengthwiseError(
                "nothing was read behind the documents that would say what comes first there; "
                "append a question, and score what follows it"
            )
        require_positions(self.model.adapted, len(self) + len(asked))
        require_session_room(self.model, whole(self._sequence.plan), len(self) - 1, self._sequence)
        held, _ = self._held(self._tokens, len(asked) + len(self) - len(self._sequence))
        read_to(held, self._tokens, len(self), self._chunk)
        held.end_prefill()
        logits = loop.teacher_force(held, asked).float()
        targets = torch.tensor(asked, device=logits.device)[:, None]
        return torch.log_softmax(logits, -1).gather(1, targets)[:, 0].cpu()

    def save(self, path: str | PathLike[str], codec: CodecLike | None = None) -> None:
        """Stores it in one safetensors file, written aside and renamed.

        Args:
            path: of the file. `lengthwise.open_session` opens it.
            codec: how keys and values are coded, such as "cachegen(level=2)"; None is as they are.

        Raises:
            RecipeError: for a codec that there is not.
            SessionError: where something of the recipe's cannot be stored, or the disk refuses.
        """
        self.require_same_model()
        write_session(path, self.model, self._recipe, self._source, self._sequence, self._tokens,
                      self._chunk, codec_of(codec), self.stale_note)  # fmt: skip


def read_session(
    model: HeldModel, prompt: Prompt, recipe: Recipe, special: str | None, chunk: int | None,
    progress: loop.Progress | None = None,
) -> Session:  # fmt: skip
    """Reads something into a new session.

    Args:
        model: that reads.
        prompt: what.
        recipe: under which.
        special: see `Model.encode`.
        chunk: tokens of a forward; None leaves it to the device.
        progress: called with tokens read.

    Raises:
        Refused: where the recipe cannot serve this model, as many tokens, or a session.
    """
    if chunk is not None:
        require_count("chunk", chunk)
    source, plan = source_of(model, prompt, special), model.plan(recipe)
    refuse_by_length(recipe)
    tokens, stable = source.prefix(model)
    if not tokens:
        raise LengthwiseError("the document is empty: there is nothing to read in it")
    require_session_room(model, plan, len(tokens))
    sequence = fresh_sequence(model, plan, len(tokens))
    with no_autocast():
        end = whole_blocks(sequence, recipe, chunk, stable)
        if model.prefix_cache is not None:
            model.prefix_cache.attach(sequence, tokens[: end + 1])
        read_to(sequence, tokens, end, chunk, progress)
        if model.prefix_cache is not None:
            model.prefix_cache.insert(sequence)
    return Session(model, recipe, source, sequence, tokens, chunk)


__all__ = ["Session", "read_session"]
