"""From a request to the texts that the engine is asked to write."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lengthwise.engine.sampling import Sampling, row_seed
from lengthwise.errors import LengthwiseError
from lengthwise.serving.choosing import choices_of
from lengthwise.serving.engine import Ask
from lengthwise.serving.errors import ApiError, api_error
from lengthwise.serving.naming import Chosen
from lengthwise.serving.protocol import (
    MOST_CHOICES,
    ChatRequest,
    Common,
    CompletionRequest,
)
from lengthwise.tokenization.detokenise import decode

if TYPE_CHECKING:
    from lengthwise.api.model import Model

# What OpenAI's text completions write where nothing is said; a chat's answer is longer.
TEXT_TOKENS = 16
CHAT_TOKENS = 512


@dataclass(frozen=True)
class Limits:
    """What one call may ask for. new_tokens: of each text. deadline_s: also that of calls that
    name none; None is none."""

    new_tokens: int = 4096
    deadline_s: float | None = None


def asks_of(request: Common, chosen: Chosen, model: Model, limits: Limits) -> list[list[Ask]]:
    """What the engine is asked: as many texts for each prompt as its choices take.

    Args:
        request: of a chat or of texts.
        chosen: the recipe.
        model: that encodes the prompts.
        limits: what is refused.

    Raises:
        ApiError: for what the model or the limits refuse.
    """
    prompts: Sequence[Any]
    if isinstance(request, ChatRequest):
        prompts = [[each.plain() for each in request.messages]]
        param, special = "messages", None
    else:
        assert isinstance(request, CompletionRequest)
        prompts = request.prompts
        # What a client writes is text, whatever is written in it; who means tokens sends ids.
        param, special = "prompt", "text"
    choices, logprobs = choices_of(request), wanted_logprobs(request)
    n = choices.written
    if len(prompts) * n > MOST_CHOICES:
        name = "best_of" if choices.ranked else "n"
        raise ApiError(
            400, "too_many_choices", f"{len(prompts)} prompts with {name}={n} are "
            f"{len(prompts) * n} texts; allowed are {MOST_CHOICES} a call", name,
        )  # fmt: skip
    if choices.ranked and logprobs is None:
        # Of the tokens that are said alone: by these texts are ranked.
        logprobs = 0
    most = _new_tokens(request, limits)
    deadline = _deadline(request, limits)
    ids = [_named(param, model.encode, each, special) for each in prompts]
    seed = secrets.randbits(63) if request.seed is None else request.seed
    samplings = [_named(None, _sampling, request, row_seed(seed, row)) for row in range(n)]
    stop_ids = () if request.ignore_eos else None
    echo = isinstance(request, CompletionRequest) and bool(request.echo)
    return [
        [
            Ask(each, chosen.recipe, most, sampling, request.stops, stop_ids, logprobs, echo,
                deadline)
            for sampling in samplings
        ]
        for each in ids
    ]  # fmt: skip


def echoed(request: Common, asks: Sequence[Sequence[Ask]], model: Model) -> list[str]:
    """The text that stands before each text of an answer.

    Args:
        request: of a chat or of texts.
        asks: of it.
        model: that decodes prompts of ids.

    Raises:
        ApiError: for ids where there is no tokenizer.
    """
    found = []
    for number, each in enumerate(asks):
        text = ""
        if isinstance(request, CompletionRequest) and request.echo:
            prompt = request.prompts[number]
            text = prompt if isinstance(prompt, str) else _decoded(prompt, model)
        found += [text] * len(each)
    return found


def _decoded(ids: Sequence[int], model: Model) -> str:
    if model.tokenizer is None:
        raise ApiError(
            400, "no_tokenizer", "echo of token ids needs a tokenizer, and this model has none; "
            "leave echo out", "echo",
        )  # fmt: skip
    return decode(model.tokenizer, ids, special=True)


def wanted_logprobs(request: Common) -> int | None:
    """Of how many of the likeliest tokens a call wants log-probabilities; None wants none at all.

    Args:
        request: of a chat or of texts.

    Raises:
        ApiError: for top_logprobs of a chat that wants none.
    """
    if isinstance(request, CompletionRequest):
        return request.logprobs
    assert isinstance(request, ChatRequest)
    if request.logprobs:
        return request.top_logprobs or 0
    if request.top_logprobs:
        raise ApiError(
            400, "invalid_value", f"top_logprobs={request.top_logprobs} needs logprobs=true",
            "top_logprobs",
        )  # fmt: skip
    return None


def _new_tokens(request: Common, limits: Limits) -> int:
    name, found = "max_tokens", request.max_tokens
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        if found is not None and found != request.max_completion_tokens:
            raise ApiError(
                400, "two_lengths", f"max_tokens={found} and max_completion_tokens="
                f"{request.max_completion_tokens} are given; give one", name,
            )  # fmt: skip
        name, found = "max_completion_tokens", request.max_completion_tokens
    if found is None:
        usual = CHAT_TOKENS if isinstance(request, ChatRequest) else TEXT_TOKENS
        return min(usual, limits.new_tokens)
    if found > limits.new_tokens:
        raise ApiError(
            400, "too_many_tokens", f"{name}={found}: this server writes at most "
            f"{limits.new_tokens:,} tokens a text (--max-new-tokens)", name,
        )  # fmt: skip
    return found


def _deadline(request: Common, limits: Limits) -> float | None:
    given = [each for each in (request.deadline_s, limits.deadline_s) if each is not None]
    return min(given, default=None)


def _sampling(request: Common, seed: int) -> Sampling:
    """As OpenAI's, whose temperature is 1 where nothing is said; beams are searched, not drawn."""
    usual = 0.0 if request.use_beam_search else 1.0
    temperature = usual if request.temperature is None else request.temperature
    penalty = 1.0 if request.repetition_penalty is None else request.repetition_penalty
    if temperature == 0:
        # The likeliest token is among the likeliest, however many of them there may be.
        return Sampling(repetition_penalty=penalty, seed=seed)
    top_p = 1.0 if request.top_p is None else request.top_p
    return Sampling(
        temperature, request.top_k or 0, top_p, request.min_p or 0.0, penalty, seed
    )  # fmt: skip


def _named(param: str | None, function: Callable[..., Any], *given: Any) -> Any:
    """What a function gives, an error of it with the name of the field."""
    try:
        return function(*given)
    except LengthwiseError as error:
        raise api_error(error, param) from None
