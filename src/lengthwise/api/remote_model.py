"""A model behind an OpenAI-compatible server: text in, text out, and what it tells of tokens.

`lengthwise.connect` makes one. What chooses and writes prompts runs here; the server reads and
answers. The client is OpenAI's own, which waits and asks again where a server is busy (429), fails
(5xx) or is not there; an answer that is none is asked for again too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from lengthwise._utils.embedded_file import NAME as EMBEDDED
from lengthwise.api.generation import NEW_TOKENS, Generation
from lengthwise.api.given import require_count, texts
from lengthwise.api.server_errors import Nonsense, ServerError, named
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.recipes import Recipe
from lengthwise.tokenization.spans import token_spans

if TYPE_CHECKING:
    from openai import OpenAI

# Log probabilities that are asked for beside the chosen token's: more than this no server gives.
LIKELIEST = 20
# A server that does not say how much its model reads is asked, and may refuse.
UNKNOWN_LENGTH = 1 << 30
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server is told beside the text. Names as OpenAI has them, those of vLLM in `extra`."""

    max_new_tokens: int = NEW_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] | None = None


class RemoteModel:
    """A `methods.prompts.LogitModel` behind a server.

    told_length: tokens that the server says its model reads; None where it does not say.
    tokens_read: of all prompts so far, as the server counted them. notes: what a user has to know.
    """

    def __init__(
        self, client: OpenAI, name: str, length: int | None, tokenizer: Any, own: bool
    ) -> None:
        self.client, self.name, self.told_length = client, name, length
        # How `write` asks, but for the most tokens.
        self.asked = Asked()
        self.tokenizer = tokenizer
        self.tokens_read = 0
        self.notes: list[str] = []
        if not own:
            self.notes.append(
                f"tokens of texts are counted with the tokenizer of {EMBEDDED}, for that of {name} "
                "is not known here; name it by tokenizer (--tokenizer)"
            )

    @property
    def trained_length(self) -> int:
        """Tokens that it reads; where that is not known, any number may be tried."""
        return self.told_length or UNKNOWN_LENGTH

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(self.client.base_url).rstrip("/")

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text stands in it.

        Args:
            text: any.
        """
        return token_spans(self.tokenizer, text)

    def count(self, text: str) -> int:
        """Tokens of a text.

        Args:
            text: any.
        """
        return len(self.spans(text))

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        """Its answer to a question about a text, a greedy one but in `sampled`.

        Args:
            text: that is asked about; "" leaves the question alone.
            question: what is asked.
            max_new_tokens: at most.
            stream: called with each piece of the answer as it comes.
        """
        asked = replace(self.asked, max_new_tokens=max_new_tokens)
        return self.ask(text, question, asked, stream).text.strip()

    def sampled(self, options: Mapping[str, Any]) -> RemoteModel:
        """The same model, which writes by other options.

        Args:
            options: of `Model.generate`.

        Raises:
            Refused: for one that only a model which runs here can take.
        """
        found = copy(self)
        found.asked = asked_as(self, options)
        return found

    def ask(
        self, text: str, question: str, asked: Asked, stream: Callable[[str], None] | None = None
    ) -> Generation:
        """Its answer, with what it took, as seen from here.

        Args:
            text: that is asked about; "" leaves the question alone.
            question: what is asked.
            asked: how.
            stream: called with each piece of the answer as it comes.

        Raises:
            ServerError: where there is none.
        """
        parts: list[str] = []
        messages = _message(text, question)

        def once() -> RequestMetrics:
            parts.clear()
            metrics = RequestMetrics()
            # What a user does with a piece is no affair of the server's.
            pieces = self._pieces(messages, asked, metrics)
            try:
                while (piece := _next(self.url, pieces)) is not None:
                    parts.append(piece)
                    if stream is not None:
                        stream(piece)
            finally:
                pieces.close()
                if not metrics.prompt_tokens and (parts or metrics.finish_reason):
                    metrics.prompt_tokens = self.count(f"{text}\n\n{question}")
                    metrics.decoded = max(0, self.count("".join(parts)) - 1)
                    metrics.notes.append(
                        f"{self.name} did not say how many tokens it read; they were counted here"
                    )
                self.tokens_read += metrics.prompt_tokens
            return metrics

        metrics = self._again(once, None if stream is None else parts)
        metrics.steps = metrics.decoded
        metrics.tokens_read = metrics.prompt_tokens
        return Generation("".join(parts), [], metrics)

    def foretell(self, text: str, question: str, tokens: int, plain: bool = False) -> Tensor:
        """Log probabilities of the first tokens of its greedy answer, `[tokens, at most 20]`: those
        of the likeliest, for a server tells no others. They are sorted, and no more than is known.

        Args:
            text: that is asked about.
            question: what is asked.
            tokens: how many, at least 1.
            plain: the question follows the text on a line of its own, without the template.

        Raises:
            Refused: by a server that tells no probabilities.
        """
        messages: Any = _message(text, question)
        shared: Any = {"model": self.name, "max_tokens": tokens, "temperature": 0}

        def of_text() -> list[list[float]]:
            found = self.client.completions.create(
                prompt=f"{text.rstrip()}\n{question}", logprobs=LIKELIEST, **shared
            )
            self._count(found)
            logs = found.choices[0].logprobs
            return [list(each.values()) for each in logs.top_logprobs] if logs else []

        def of_chat() -> list[list[float]]:
            found = self.client.chat.completions.create(
                messages=messages, logprobs=True, top_logprobs=LIKELIEST, **shared
            )
            self._count(found)
            logs = found.choices[0].logprobs
            known = (logs.content if logs else None) or []
            return [[top.logprob for top in each.top_logprobs] for each in known]

        rows = self._told(of_text if plain else of_chat, "probabilities of its answer")
        width = max(map(len, rows))
        return torch.tensor(
            [sorted(row, reverse=True) + [-1e4] * (width - len(row)) for row in rows[:tokens]]
        )

    def losses(self, text: str) -> Tensor:
        """Loss of each token of a text in nats, which the server tells by echo.

        The tokens are those of `spans`; where the server's are others, each loss counts where its
        token begins.

        Args:
            text: any.

        Raises:
            Refused: by a server that does not echo.
        """
        spans = self.spans(text)
        if len(spans) < 2:
            return torch.zeros(len(spans))

        def told() -> list[tuple[float, int]]:
            found = self.client.completions.create(
                model=self.name, prompt=text, echo=True, logprobs=0, max_tokens=1, temperature=0
            )
            self._count(found)
            (choice,) = found.choices
            # One that knows no echo gives the token that follows alone.
            if not choice.logprobs or not choice.text.startswith(text):
                return []
            values = [-(each or 0.0) for each in choice.logprobs.token_logprobs or ()]
            return list(zip(values, choice.logprobs.text_offset or (), strict=True))

        found = torch.zeros(len(spans))
        place = 0
        pairs = self._told(told, "losses of a text (echo with logprobs)")
        if [offset for _, offset in pairs[: len(spans)]] == [start for start, _ in spans]:
            # The tokens are the same ones, those that share a place included.
            return torch.tensor([value for value, _ in pairs[: len(spans)]])
        for value, offset in pairs:
            if offset >= spans[-1][1]:
                break
            while place + 1 < len(spans) and spans[place + 1][0] <= offset:
                place += 1
            found[place] += value
        return found

    def _told(self, ask: Callable[[], list[T]], what: str) -> list[T]:
        """What not every server tells; refused by name where one does not."""

        def once() -> list[T]:
            with named(self.url):
                return ask()

        remedy = (
            "use a method that needs text alone, such as bm25, or a server that tells them, such "
            "as vLLM"
        )
        try:
            found = self._again(once)
        except ServerError as error:
            if not error.refused:
                raise
            raise Refused(f"{self.name} does not tell the {what} ({error})", remedy) from error
        if not found:
            raise Refused(f"{self.name} does not tell the {what}", remedy)
        return found

    def _pieces(
        self, messages: Any, asked: Asked, metrics: RequestMetrics
    ) -> Generator[str, None, None]:
        """The pieces of one answer as they come; metrics are filled on the way."""
        more: dict[str, Any] = {"stop": list(asked.stop)} if asked.stop else {}
        if asked.seed is not None:
            more["seed"] = asked.seed
        begin = time.perf_counter()
        last = None
        with self.client.chat.completions.create(
            model=self.name, messages=messages, max_tokens=asked.max_new_tokens,
            temperature=asked.temperature, top_p=asked.top_p, stream=True,
            stream_options={"include_usage": True}, extra_body=asked.extra, **more,
        ) as chunks:  # fmt: skip
            for chunk in chunks:
                if chunk.usage is not None:
                    metrics.prompt_tokens = chunk.usage.prompt_tokens
                    metrics.decoded = max(0, chunk.usage.completion_tokens - 1)
                for choice in chunk.choices:
                    metrics.finish_reason = choice.finish_reason or metrics.finish_reason
                    if choice.delta.content:
                        last = time.perf_counter()
                        metrics.ttft_s = metrics.ttft_s or last - begin
                        yield choice.delta.content
        if not metrics.finish_reason:
            raise ValueError("it broke off in the middle")
        metrics.ttft_s = metrics.ttft_s or time.perf_counter() - begin
        metrics.decode_s = 0.0 if last is None else last - begin - metrics.ttft_s

    def _count(self, found: Any) -> None:
        usage = getattr(found, "usage", None)
        self.tokens_read += 0 if usage is None else int(usage.prompt_tokens)

    def _again(self, ask: Callable[[], T], shown: list[str] | None = None) -> T:
        """What is asked, asked again where the answer is nonsense; not where a user was shown a
        part of it."""
        left, wait = self.client.max_retries, 0.5
        while True:
            try:
                return ask()
            except Nonsense as error:
                if not left or shown:
                    part = f", behind {len(''.join(shown)):,} characters" if shown else ""
                    raise ServerError(
                        f"{self.url} does not answer as OpenAI's servers do{part}: {error}; see "
                        "whether the address ends in /v1, and what the server logs"
                    ) from error
            left -= 1
            time.sleep(wait)
            wait = min(8.0, 2 * wait)


def _next(url: str, pieces: Iterator[str]) -> str | None:
    with named(url):
        return next(pieces, None)


# What is asked of a server as OpenAI has it, and what servers such as vLLM take beside it.
_SHARED = ("max_new_tokens", "temperature", "top_p", "seed")
_BESIDE = ("top_k", "min_p", "repetition_penalty")


def asked_as(model: RemoteModel, options: Mapping[str, Any]) -> Asked:
    """The options of `Model.generate` as a server takes them.

    Args:
        model: behind the server.
        options: by name.

    Raises:
        Refused: for one that only a model which runs here can take.
        LengthwiseError: for values that are none.
    """
    stop = texts("stop", options.get("stop", ()))
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in (*_SHARED, *_BESIDE, "stop"):
            raise Refused(
                f"{name}={given[name]!r} is for a model that runs here, and {model.name} is behind "
                "a server",
                f"leave it out; a server takes {', '.join((*_SHARED, *_BESIDE, 'stop'))}",
            )
    require_count("max_new_tokens", given.get("max_new_tokens", 1))
    Sampling(**{k: v for k, v in given.items() if k not in ("max_new_tokens", "stop")})
    shared = {name: given[name] for name in _SHARED if name in given}
    # A greedy answer has nothing to draw.
    if not given.get("temperature"):
        shared.pop("seed", None)
    beside = {name: given[name] for name in _BESIDE if given.get(name, _OFF[name]) != _OFF[name]}
    return Asked(**shared, stop=tuple(stop), extra=beside or None)


_OFF = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


def prompting_alone(model: RemoteModel, recipe: Recipe) -> Method | None:
    """The prompting method of a recipe for a model behind a server.

    Args:
        model: behind the server.
        recipe: any.

    Raises:
        Refused: for one with other methods, which act within a model.
    """
    rest = recipe.after_prompting
    if rest.methods:
        raise Refused(
            f"{rest} acts within a model, and {model.name} is behind a server",
            "leave it out, or let the server run it: `lengthwise serve --recipe ...`",
        )
    return recipe.prompting


def _message(text: str, question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{text}\n\n{question}" if text else question}]


__all__ = ["UNKNOWN_LENGTH", "Asked", "RemoteModel", "asked_as", "prompting_alone"]
