"""What is answered to a completion, whole or in chunks, in OpenAI's shapes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lengthwise._utils.version import __version__
from lengthwise.api.generation import Generation
from lengthwise.serving.choosing import Choices
from lengthwise.serving.engine import Piece, TokenLogprob
from lengthwise.serving.figures import figures_of
from lengthwise.serving.logprobs import chat_logprobs, prompt_logprobs, text_logprobs
from lengthwise.tokenization.detokenise import Incremental

if TYPE_CHECKING:
    from lengthwise.api.model import Model
    from lengthwise.recipes import Recipe

# OpenAI has two reasons for a text to end, and a deadline is the second like any other limit.
STOP, LENGTH, DEADLINE = "stop", "length", "deadline"


@dataclass
class Text:
    """One text of an answer as it comes.

    echo: what stands before it. prompt: of the tokens of that. read: what its tokens say so far, as
    far as their log-probabilities were told.
    """

    echo: str = ""
    prompt: list[TokenLogprob] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    generation: Generation | None = None
    read: Incremental | None = None

    @property
    def likelihood(self) -> float:
        """Mean log-probability of its tokens, by which OpenAI's best_of ranks."""
        return sum(each.logprob for each in self.logprobs) / max(1, len(self.logprobs))

    def add(self, piece: Piece) -> None:
        """Takes a piece that carries no error.

        Args:
            piece: the next one.
        """
        self.prompt += piece.prompt
        self.logprobs += piece.logprobs
        if isinstance(piece.done, Generation):
            self.generation = piece.done


class Answer:
    """One answer to `/v1/completions`; texts are numbered as choices are.

    echoed: what stands before each text. prompts: how many there are; texts of one prompt follow
    each other. choices: which of them become choices; None is all.
    """

    whole, chunk, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(
        self, model: Model, name: str, recipe: Recipe, echoed: Sequence[str], prompts: int,
        logprobs: bool, choices: Choices | None = None,
    ) -> None:  # fmt: skip
        self.model, self.name, self.recipe, self.wants_logprobs = model, name, recipe, logprobs
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.texts = [Text(each) for each in echoed]
        self.prompts = prompts
        self.choices = choices or Choices(len(self.texts) // prompts, len(self.texts) // prompts)

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.name,
            "system_fingerprint": f"lengthwise-{__version__}", "choices": choices,
        }  # fmt: skip

    # What differs between a text and a message of a chat.

    def _said(self, text: str, number: int, found: list[TokenLogprob]) -> dict[str, Any]:
        return {"text": text, "logprobs": self._logprobs(number, found)}

    def _logprobs(self, number: int, found: list[TokenLogprob]) -> dict[str, Any] | None:
        tokenizer = self.model.tokenizer
        if not self.wants_logprobs or tokenizer is None:
            return None
        text = self.texts[number]
        text.read = text.read or Incremental(tokenizer)
        made = text_logprobs(tokenizer, found, text.read, len(text.echo))
        if text.prompt:
            before = prompt_logprobs(tokenizer, text.prompt, text.echo)
            made = {name: before[name] + made[name] for name in made}
            text.prompt = []
        return made

    def opening(self) -> list[dict[str, Any]]:
        """Chunks that come before all text."""
        if self.wants_logprobs:
            # Those of a prompt come with what follows it.
            return []
        return [
            self._frame(self.chunk, [{"index": number, "text": text.echo, "logprobs": None,
                                      "finish_reason": None}])
            for number, text in enumerate(self.texts)
            if text.echo
        ]  # fmt: skip

    def _nothing(self) -> dict[str, Any]:
        return {"text": "", "logprobs": None}

    # Chunks.

    def chunks(self, number: int, piece: Piece) -> list[dict[str, Any]]:
        """What a piece of a text becomes in a stream.

        Args:
            number: of the text.
            piece: that carries no error.
        """
        text = self.texts[number]
        text.generation = piece.done if isinstance(piece.done, Generation) else None
        text.prompt = piece.prompt
        found = []
        if piece.text or (self.wants_logprobs and (piece.logprobs or piece.prompt)):
            said = text.echo + piece.text if piece.prompt else piece.text
            choice = {"index": number, **self._said(said, number, piece.logprobs)}
            found.append(self._frame(self.chunk, [{**choice, "finish_reason": None}]))
        if text.generation is not None:
            last = {"index": number, **self._nothing(), **self._end(text.generation)}
            found.append(self._frame(self.chunk, [last]))
        return found

    def _end(self, generation: Generation) -> dict[str, Any]:
        stopped = generation.metrics.finish_reason == STOP
        return {
            "finish_reason": STOP if stopped else LENGTH,
            "lengthwise": figures_of(generation, self.recipe, self.model.adapted),
        }

    @property
    def late(self) -> bool:
        """Whether a text was broken off by its deadline."""
        done = [text.generation for text in self.texts if text.generation is not None]
        return any(each.metrics.finish_reason == DEADLINE for each in done)

    def usage_chunk(self) -> dict[str, Any]:
        """The chunk behind all others that says what was used."""
        return {**self._frame(self.chunk, []), "usage": self.usage()}

    # The whole.

    def body(self) -> dict[str, Any]:
        """The whole answer, when every text has its generation."""
        choices = []
        for index, (number, said) in enumerate(self._chosen()):
            text = self.texts[number]
            assert text.generation is not None
            whole = self._whole(text.echo + said, number, text.logprobs)
            choices.append({"index": index, **whole, **self._end(text.generation)})
        return {**self._frame(self.whole, choices), "usage": self.usage()}

    def _chosen(self) -> list[tuple[int, str]]:
        """The choices, in order: the number of a text, and what it says."""
        wanted, each = self.choices, len(self.texts) // self.prompts
        found: list[tuple[int, str]] = []
        for first in range(0, len(self.texts), each):
            numbers = list(range(first, first + each))
            if wanted.ranked:
                numbers.sort(key=lambda number: -self.texts[number].likelihood)
            for number in numbers[: 1 if wanted.beams else wanted.n]:
                generation = self.texts[number].generation
                assert generation is not None
                drafts = [draft.text for draft in generation.drafts] if wanted.beams else []
                found += [(number, said) for said in (drafts or [generation.text])[: wanted.n]]
        return found

    def _whole(self, text: str, number: int, found: list[TokenLogprob]) -> dict[str, Any]:
        return self._said(text, number, found)

    def usage(self) -> dict[str, Any]:
        """Tokens read and written; a prompt of several texts counts once."""
        done = [text.generation for text in self.texts if text.generation is not None]
        firsts = _first_of_each(self.texts, self.prompts)
        prompt = sum(each.metrics.prompt_tokens for each in firsts)
        written = sum(len(each.token_ids) for each in done)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {
                "cached_tokens": sum(each.metrics.reused_tokens for each in firsts)
            },
            "completion_tokens_details": {
                "accepted_prediction_tokens": sum(
                    sum(each.metrics.accepted.values()) for each in done
                ),
            },
        }


class ChatAnswer(Answer):
    """One answer to `/v1/chat/completions`."""

    whole, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def _said(self, text: str, number: int, found: list[TokenLogprob]) -> dict[str, Any]:
        return {"delta": {"content": text}, "logprobs": self._logprobs(number, found)}

    def _logprobs(self, number: int, found: list[TokenLogprob]) -> dict[str, Any] | None:
        tokenizer = self.model.tokenizer
        if not self.wants_logprobs or tokenizer is None:
            return None
        return chat_logprobs(tokenizer, found)

    def opening(self) -> list[dict[str, Any]]:
        """The role of every message comes first."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [
            self._frame(self.chunk, [{"index": number, "delta": dict(delta), "logprobs": None,
                                      "finish_reason": None}])
            for number in range(len(self.texts))
        ]  # fmt: skip

    def _nothing(self) -> dict[str, Any]:
        return {"delta": {}, "logprobs": None}

    def _whole(self, text: str, number: int, found: list[TokenLogprob]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"message": message, "logprobs": self._logprobs(number, found)}


def _first_of_each(texts: Sequence[Text], prompts: int) -> list[Generation]:
    """The first text of every prompt, as far as it is whole."""
    each = len(texts) // prompts
    found = [text.generation for text in texts[::each]]
    return [generation for generation in found if generation is not None]
