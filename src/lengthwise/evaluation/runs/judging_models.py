"""A judging model: prompts go in, several at a time, and what it says comes out."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from lengthwise.api.generation import Generation
from lengthwise.api.model import Model
from lengthwise.api.remote_model import Asked, RemoteModel
from lengthwise.api.server_errors import ServerError
from lengthwise.api.text_model import LocalText
from lengthwise.api.text_models import identity
from lengthwise.errors import LengthwiseError, NotFinite, OutOfMemory, Refused

# By which an answer that cannot be read is asked for again: LongBench-Write's.
AGAIN = 0.5


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. failed: why there is none. gone: whether the server may be the reason. over:
    whether the prompt is longer than the model was trained to read."""

    text: str = ""
    failed: str | None = None
    gone: bool = False
    over: bool = False


class JudgingModel(Protocol):
    """A model that judges. name: what it is called. identity: what tells it from others."""

    name: str
    identity: str

    def ask(self, prompts: Seq[str], most: int, seed: int, attempt: int) -> list[Said]:
        """The answer to each prompt, in their order: at temperature 0 first, drawn again after.

        Args:
            prompts: each asked alone.
            most: tokens of an answer.
            seed: of what is drawn.
            attempt: how often each was asked before.
        """
        ...


def judging_model(model: Model | RemoteModel, batch: int) -> JudgingModel:
    """A model as a judge asks it.

    Args:
        model: of `lengthwise.load`, `wrap` or `connect`.
        batch: prompts that are asked at a time.
    """
    return _Remote(model, batch) if isinstance(model, RemoteModel) else _Local(model)


class _Local:
    def __init__(self, model: Model) -> None:
        self.model, self.name, self.identity = model, model.name, identity(LocalText(model))
        self._chat = bool(getattr(model._tokenizer(), "chat_template", None))

    def ask(self, prompts: Seq[str], most: int, seed: int, attempt: int) -> list[Said]:
        given: list[Any] = []
        for each in prompts:
            message = [{"role": "user", "content": each}]
            given.append(message if self._chat else self.model.encode(each, special="text"))
        options: dict[str, Any] = {"max_new_tokens": most}
        if attempt:
            options |= {"temperature": AGAIN, "seed": seed + attempt}
        try:
            found = self.model.generate_batch(given, **options)
        except (Refused, OutOfMemory, NotFinite) as error:
            return [Said(failed=str(error)) for _ in prompts]
        return [_said(each, self.model.trained_length) for each in found]


def _said(found: Generation, trained: int | None) -> Said:
    over = trained is not None and found.metrics.prompt_tokens > trained
    why = found.refused or found.failed
    return Said(found.text, None if why is None else str(why), over=over)


class _Remote:
    def __init__(self, model: RemoteModel, batch: int) -> None:
        self.model, self.batch = model, batch
        self.name = self.identity = model.name

    def ask(self, prompts: Seq[str], most: int, seed: int, attempt: int) -> list[Said]:
        # Servers that draw even at temperature 0 are told the seed.
        asked = Asked(most, AGAIN if attempt else 0.0, seed=seed + attempt)

        def one(prompt: str) -> Said:
            try:
                return _said(self.model.ask("", prompt, asked), self.model.told_length)
            except ServerError as error:
                return Said(failed=str(error), gone=not (error.refused or error.of_prompt))
            except LengthwiseError as error:
                return Said(failed=str(error))

        with ThreadPoolExecutor(self.batch) as pool:
            return list(pool.map(one, prompts))


__all__ = ["AGAIN", "JudgingModel", "Said", "judging_model"]
