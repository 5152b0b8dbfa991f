"""Bodies of a batch file: what a request asks of the engine, and what its answer looks like."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import Any

from lengthwise._utils.suggestions import did_you_mean
from lengthwise.api.generation import NEW_TOKENS, Generation
from lengthwise.api.given import require_count
from lengthwise.api.held_model import HeldModel
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.serving.batch_files import Line

CHAT = "/v1/chat/completions"
# What has no effect on an answer.
_IDLE = ("model", "user", "metadata", "store", "stream")
_COMMON = (
    "max_tokens", "temperature", "top_p", "seed", "stop", "n", "top_k", "min_p",
    "repetition_penalty",
)  # fmt: skip
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
# Texts of one request, as OpenAI has it.
_MOST_CHOICES = 128


@dataclass(frozen=True)
class Ask:
    """What one request asks of the engine. tokens: of its prompt.

    samplings: one for each text that is wanted. chat: it answers a chat, and not a text.
    """

    tokens: tuple[int, ...]
    samplings: tuple[Sampling, ...]
    max_tokens: int = NEW_TOKENS
    stop: tuple[str, ...] = ()
    chat: bool = True


def asked(line: Line, model: HeldModel) -> Ask:
    """What the body of a line asks for.

    Args:
        line: of IN, with a request.
        model: whose tokenizer and template make tokens of the prompt.

    Raises:
        LengthwiseError: for a body that asks for something else than this.
    """
    body, chat = dict(line.body or {}), line.url == CHAT
    prompt_name = "messages" if chat else "prompt"
    if body.get("stream"):
        raise LengthwiseError("stream: a batch has nobody to stream to; leave it out")
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    given = {name: value for name, value in body.items() if value is not None}
    for name in given:
        known = (prompt_name, *_COMMON, *_IDLE, "max_completion_tokens")
        if name not in known:
            raise LengthwiseError(
                f"{name} is no field of {line.url} here{did_you_mean(name, known, '.')} Allowed: "
                f"{', '.join(known)}"
            )
    most, count = given.get("max_tokens", NEW_TOKENS), given.get("n", 1)
    require_count("max_tokens", most)
    require_count("n", count)
    if count > _MOST_CHOICES:
        raise LengthwiseError(f"n={count}: give {_MOST_CHOICES} at most")
    stop = given.get("stop", ())
    several = [stop] if isinstance(stop, str) else stop
    if not isinstance(several, list | tuple) or not all(isinstance(s, str) and s for s in several):
        raise LengthwiseError(f"stop={stop!r}: give a string or a list of strings, none empty")
    return Ask(
        tuple(_tokens(prompt_name, given.get(prompt_name), model)),
        _samplings(given, count), int(most), tuple(several), chat,
    )  # fmt: skip


def _tokens(name: str, prompt: Any, model: HeldModel) -> list[int]:
    """Ids of a prompt: a text or ids, or the messages of a chat."""
    if name == "messages":
        if not isinstance(prompt, list) or not prompt or not isinstance(prompt[0], Mapping):
            raise LengthwiseError(
                'messages: give a list of {"role": ..., "content": ...}, at least one'
            )
        return model.encode(prompt)
    if isinstance(prompt, str) or (
        isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt)
    ):
        return model.encode(prompt)
    raise LengthwiseError("prompt: give one text, or one list of token ids")


def _samplings(given: Mapping[str, Any], count: int) -> tuple[Sampling, ...]:
    """One for each text: the first takes the seed, the others those after it."""
    options = {name: given[name] for name in _SAMPLING if name in given}
    if not options.get("temperature"):
        # Clients send top_p=1 and the like with everything; where it narrows, it is refused.
        options = {n: v for n, v in options.items() if n != "top_p" or v != 1}
    first = Sampling(**options, seed=given.get("seed", 0))
    others = [Sampling(**options, seed=_after(first.seed, more)) for more in range(1, count)]
    return (first, *others)


def _after(seed: int, more: int) -> int:
    """The seed so many further, among the 64 bits that there are."""
    return (seed + more) % 2**64


def answer(
    ask: Ask, texts: Seq[Generation], name: str, identity: str, now: float | None = None
) -> dict[str, Any]:
    """The body of an answer.

    Args:
        ask: what was asked.
        texts: one for each sampling.
        name: of the model.
        identity: letters and digits that no other answer has.
        now: seconds since 1970; None asks the clock.
    """
    written = sum(_written(text) for text in texts)
    reused = max(text.metrics.reused_tokens for text in texts)
    kind, made = ("chatcmpl", "chat.completion") if ask.chat else ("cmpl", "text_completion")
    return {
        "id": f"{kind}-{identity}", "object": made, "created": int(now or time.time()),
        "model": name, "choices": [_choice(ask, n, text) for n, text in enumerate(texts)],
        "usage": {
            "prompt_tokens": len(ask.tokens), "completion_tokens": written,
            "total_tokens": len(ask.tokens) + written,
            "prompt_tokens_details": {"cached_tokens": reused},
        },
    }  # fmt: skip


def _written(text: Generation) -> int:
    return len(text.token_ids)


def _choice(ask: Ask, index: int, text: Generation) -> dict[str, Any]:
    said: dict[str, Any] = {"text": text.text}
    if ask.chat:
        said = {"message": {"role": "assistant", "content": text.text}}
    return {"index": index, **said, "logprobs": None, "finish_reason": text.metrics.finish_reason}


def refusal(error: Exception, kind: str = "invalid_request_error") -> dict[str, Any]:
    """The body that says why a request has no answer.

    Args:
        error: what was raised.
        kind: whose mistake it is, as OpenAI names it.
    """
    return {"error": {"message": str(error), "type": kind, "param": None, "code": None}}


__all__ = ["Ask", "answer", "asked", "refusal"]
