"""A conversation that keeps its cache: a turn reads what is new, and what a template changed.

Where a recipe only adds to its cache the answer is written on what is held, and stays there. Under
a recipe that drops, moves, encodes or selects, it is written on a copy: what is held is the prompt
as one call would read it, and the next turn reads the answer as part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from os import PathLike
from os.path import commonprefix
from typing import Any, Unpack

from lengthwise import recipes
from lengthwise.api.asking import close_batch, open_batch
from lengthwise.api.batch import Batch, Row
from lengthwise.api.generation import NEW_TOKENS, Generation, Options
from lengthwise.api.given import require_count, shown_as
from lengthwise.api.held_model import HeldModel
from lengthwise.api.session import Session
from lengthwise.api.session_prompt import ChatSource
from lengthwise.api.session_reading import (
    fresh_sequence,
    read_to,
    refuse_by_length,
    whole_blocks,
)
from lengthwise.api.session_writing import write_session
from lengthwise.api.streams import Stream
from lengthwise.engine.continuing import make_room, same_frequencies
from lengthwise.engine.kv_cache.rollback import reopen, roll_back
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import whole
from lengthwise.errors import LengthwiseError, SessionError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.models.limits import require_room
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import Recipe, RecipeLike


@dataclass(frozen=True)
class ChatCost:
    """What a conversation has cost so far.

    turns: answered. prompt_tokens: of all prompts, of which reused_tokens were not read again.
    new_tokens: said by the model. seconds: of reading and writing. kv_bytes: held now.
    """

    turns: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    kv_bytes: int = 0

    def __str__(self) -> str:
        return (
            f"{self.turns} turns, {self.prompt_tokens:,} tokens of prompts "
            f"({self.reused_tokens:,} not read again), {self.new_tokens:,} said, "
            f"{self.seconds:.1f} s, {self.kv_bytes / 1e6:.1f} MB of KV"
        )


@dataclass
class _Turn:
    """A turn under way. held: tokens that were not read again. seconds: of reading before it."""

    text: str
    rows: list[Row]
    direct: bool
    held: int
    seconds: float
    notes: list[str]


class Chat:
    """A conversation with a model under one recipe. Made by `Model.chat`; for one thread at a time.

    What it holds is compared with each prompt as token ids. Where the chat template changed
    something, the cache is rolled back to what is the same; a cache that cannot be is read again.
    """

    def __init__(self, model: HeldModel, recipe: Recipe, system: str | None = None) -> None:
        if not getattr(model.tokenizer, "chat_template", None):
            raise LengthwiseError(
                "this model's tokenizer has no chat template, which a chat needs; use "
                "Model.read and ask"
            )
        refuse_by_length(recipe)
        self.model = model
        self._recipe, self._plan = recipe, model.plan(recipe)
        self._messages: list[dict[str, Any]] = []
        if system is not None:
            self._messages.append({"role": "system", "content": system})
        self._sequence: Sequence | None = None
        # What is to be said of it while it is stale.
        self._stale_note = ""
        self._cost = ChatCost()
        self._told = False
        self._mark = fingerprint_now(model.adapted)

    @classmethod
    def resume(cls, session: Session) -> Chat:
        """Goes on with a conversation that was saved, or with messages that a session read.

        Args:
            session: one that has read chat messages; it is not to be used any more.

        Raises:
            LengthwiseError: for a session of something else, and for a compressed one.
            SessionError: where the model has changed since.
        """
        session.require_same_model()
        source = session.source
        if not isinstance(source, ChatSource) or session.compressed:
            raise LengthwiseError(
                "a chat goes on from a session that has read chat messages and is not compressed; "
                "ask this one with ask"
            )
        chat = cls(session.model, session.parsed)
        chat._messages = [dict(each) for each in source.messages]
        chat._sequence, chat._stale_note = session.held, session.stale_note
        return chat

    def __repr__(self) -> str:
        said = sum(each["role"] == "user" for each in self._messages)
        return f"<Chat of {said} turns under {self.recipe}, on {self.model.name}>"

    @property
    def recipe(self) -> str:
        """The recipe as text."""
        return str(self._recipe)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said, as chat messages; a copy."""
        return [dict(each) for each in self._messages]

    @property
    def cost(self) -> ChatCost:
        """What it has cost so far."""
        held = 0 if self._sequence is None else self._sequence.nbytes()
        return ChatCost(**{**vars(self._cost), "kv_bytes": held})

    def use(self, recipe: RecipeLike) -> None:
        """Goes on under another recipe; the next turn reads all of the conversation.

        Args:
            recipe: as for `Model.generate`.

        Raises:
            RecipeError: where it cannot be parsed, or cannot serve this model or a chat.
        """
        chosen = recipes.recipe_of(recipe)
        refuse_by_length(chosen)
        self._plan, self._recipe = self.model.plan(chosen), chosen
        self._sequence, self._told = None, False

    def undo(self) -> None:
        """Takes back the last turn, question and answer.

        Raises:
            LengthwiseError: where nothing was said yet.
        """
        users = [n for n, each in enumerate(self._messages) if each["role"] == "user"]
        if not users:
            raise LengthwiseError("there is no turn to take back")
        del self._messages[users[-1] :]

    def save(self, path: str | PathLike[str]) -> None:
        """Stores it as a session, which `lengthwise.open_session` and `Chat.resume` go on with.

        Args:
            path: of the file.

        Raises:
            LengthwiseError: where nothing was said yet, or nothing since a turn was broken off.
            SessionError: where something of the recipe's cannot be stored, or the disk refuses.
        """
        if self._sequence is None:
            raise LengthwiseError(
                "nothing was said yet under this recipe, or since a turn was broken off: there is "
                "nothing to save; say something first"
            )
        self._require_same_model()
        write_session(path, self.model, self._recipe, ChatSource(tuple(self._messages)),
                      self._sequence, list(self._sequence.tokens), None,
                      stale=self._said_of(self._sequence))  # fmt: skip

    # Talking.

    @shown_as(Session.ask)
    def say(
        self, text: str, *, stream: Callable[[str], None] | None = None, **options: Unpack[Options]
    ) -> Generation:
        """Says something, and has it answered; both become part of the conversation.

        Args:
            text: the user's next message.
            stream: called with each piece of text as it comes.
            **options: as in `Session.ask`.

        Returns:
            As `Model.generate`; `metrics.reused_tokens` of the prompt were not read again.

        Raises:
            LengthwiseError: for an empty text, and as `Model.generate` does; nothing was said then.
            SessionError: where the model has changed since.
        """
        batch, turn = self._open(text, stream, None, **options)
        try:
            with no_autocast():
                batch.read()
                while batch.active:
                    batch.step()
        except BaseException:
            # What is held is no prompt of a whole turn any more.
            self._sequence = None
            raise
        return self._close(batch, turn).require()

    @shown_as(say, without=("stream",))
    def stream(self, text: str, **options: Unpack[Options]) -> Stream:
        """The answer piece by piece; one that is closed early stays as far as it was said.

        Under a recipe that does more than add to its cache, what is new is read before this
        returns; an error or Ctrl-C meanwhile leaves the conversation as it was.

        Args:
            text: as for `say`.
            **options: as for `say`.

        Returns:
            The stream, whose `generation` is what `say` would have returned.

        Raises:
            LengthwiseError: as `say` does.
        """
        opened: list[_Turn] = []

        def begin(sink: Callable[[str], None], stopped: Callable[[], bool]) -> Batch:
            batch, turn = self._open(text, sink, stopped, **options)
            opened.append(turn)
            return batch

        stream: Stream = Stream(begin, lambda batch: self._close(batch, opened[0], stream.broken))
        return stream

    def _open(
        self, text: str, sink: Callable[[str], None] | None,
        stopped: Callable[[], bool] | None, **options: Unpack[Options],
    ) -> tuple[Batch, _Turn]:  # fmt: skip
        self._require_same_model()
        if not isinstance(text, str) or not text.strip():
            raise LengthwiseError("what is said is empty; give a text")
        most = options.get("max_new_tokens", NEW_TOKENS)
        require_count("max_new_tokens", most)
        source = ChatSource(tuple(self._messages))
        ids = source.ask(self.model, text, options.get("special"))
        require_room(self.model.adapted, len(ids), most)
        self._plan.check_prompt(len(ids))
        begin = time.perf_counter()
        base, note = self._reach(ids, len(ids) + most)
        held, direct = len(base), _only_adds(base)
        if not direct:
            end = whole_blocks(base, self._recipe, None, len(ids) - 1)
            with no_autocast():
                read_to(base, ids, end, None, options.get("progress"))
        # Whole again: broken off before, nothing is gone on with.
        self._sequence = base
        using = base if direct else base.fork()
        make_room(using, len(ids) - len(base) + most)
        seconds = time.perf_counter() - begin
        seed: Any = options.get("seed", 0)
        others: Any = {name: value for name, value in options.items() if name != "seed"}
        batch, rows = open_batch(
            self.model, [ids], [self._recipe], seed, None if sink is None else [sink], stopped,
            held=[using], **others,
        )  # fmt: skip
        notes = [*filter(None, [note, self._said_of(base)])]
        return batch, _Turn(text, rows, direct, held, seconds, notes)

    def _reach(self, ids: Seq[int], expected: int) -> tuple[Sequence, str]:
        """Takes what is held, back at what a prompt begins with too; and what is to be said."""
        base, note = self._sequence, ""
        self._sequence = None
        if base is not None:
            same = min(len(commonprefix([list(base.tokens), list(ids)])), len(ids) - 1)
            if not same_frequencies(base, len(ids)) or (same and not roll_back(base, same)):
                note, base = self._say_once(), None
            elif not same:
                base = None
        if base is None:
            base = fresh_sequence(self.model, self._plan, expected)
        return base, note

    def _say_once(self) -> str:
        if self._told:
            return ""
        self._told = True
        return (
            f"the template changed what was said before, and a cache of {self.recipe} cannot be "
            "rolled back: the conversation was read again, as it will be whenever that happens"
        )

    def _said_of(self, held: Sequence) -> str:
        return self._stale_note if held.stale else ""

    def _close(self, batch: Batch, turn: _Turn, broken: bool = False) -> Generation:
        (found,) = close_batch(self.model, batch, turn.rows)
        if turn.direct and broken:
            self._sequence = None
        if turn.direct and self._sequence is not None:
            self._sequence.discard()
            reopen(self._sequence)
        metrics = found.metrics
        metrics.ttft_s += turn.seconds
        metrics.reused_tokens = min(metrics.reused_tokens, turn.held)
        metrics.notes += turn.notes
        if found.refused is None and found.failed is None:
            self._messages += [
                {"role": "user", "content": turn.text},
                {"role": "assistant", "content": found.text},
            ]
            past = self._cost
            self._cost = ChatCost(
                past.turns + 1, past.prompt_tokens + metrics.prompt_tokens,
                past.reused_tokens + metrics.reused_tokens,
                past.new_tokens + len(found.token_ids),
                past.seconds + metrics.ttft_s + metrics.decode_s,
            )  # fmt: skip
        return found

    def _require_same_model(self) -> None:
        if fingerprint_now(self.model.adapted) != self._mark:
            raise SessionError(
                f"the weights of {self.model.name} have changed since this chat began: what it "
                "holds is another model's; begin a new one"
            )


def _only_adds(sequence: Sequence) -> bool:
    """Whether a recipe does nothing but add to its cache, so that it can be rolled back."""
    plan, watching = whole(sequence.plan), sequence._observation.remember
    moves = any(layer.rule is not None and layer.rule.dynamic for layer in sequence.layers)
    moves |= any(group.placement.window is not None for _, group in sequence.groups())
    does = (plan.retention, plan.codec, plan.selector, plan.mode)
    switches = sequence.model.switch is not None
    return not any(does) and not moves and not switches and not watching and sequence.noted is None


__all__ = ["Chat", "ChatCost"]
