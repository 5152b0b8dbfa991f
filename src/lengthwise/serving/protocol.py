"""What may be asked over HTTP: OpenAI's chat and text completions, as pydantic models.

Fields of OpenAI that are not served stand in `UNSERVED` with the values at which they do nothing.
Those are taken; any other value is refused by name, since an answer that ignored it would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# Texts that one call may ask for, over all its prompts.
MOST_CHOICES = 32
MOST_STOPS = 16
MOST_LOGPROBS = 20

Name = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Token = Annotated[int, Field(ge=0)]


def _empty(value: Any) -> bool:
    return value in (None, "", [], {})


def _one_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: (
        value is None
        or any(
            value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed
        )
    )


# Of each field: whether a value does nothing.
UNSERVED: dict[str, Callable[[Any], bool]] = {
    "audio": _empty,
    "frequency_penalty": _one_of(0),
    "function_call": _one_of("none", "auto"),
    "functions": _empty,
    "logit_bias": _empty,
    "modalities": _one_of(["text"]),
    "moderation": _empty,
    "parallel_tool_calls": _one_of(True, False),
    "prediction": _empty,
    "presence_penalty": _one_of(0),
    "prompt_cache_options": _empty,
    "reasoning_effort": _one_of("none"),
    "service_tier": _one_of("auto", "default"),
    "store": _one_of(False),
    "suffix": _empty,
    "tool_choice": _one_of("none", "auto"),
    "tools": _empty,
    "verbosity": _one_of("medium"),
    "web_search_options": _empty,
}
# Names that tell the caller from others and change no answer.
LABELS = ("metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user")


class Strict(BaseModel):
    """No field that there is not, and no type that is another."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(Strict):
    """include_usage: a last chunk says what was used. include_obfuscation: taken, and nothing to
    do: chunks are not padded here."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class TextPart(Strict):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


class Message(Strict):
    """One message of a chat.

    What an answer of OpenAI's carries beside its content may come back where it is empty.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    name: None = None
    refusal: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None

    def plain(self) -> dict[str, str]:
        """The message as a chat template takes it; a developer speaks as the system does."""
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return {"role": role, "content": self.content}
        return {"role": role, "content": "".join(part.text for part in self.content)}


class Common(Strict):
    """What both kinds of completion take.

    recipe: ours; it may also stand in the name of the model, behind a colon. top_k, min_p,
    repetition_penalty, ignore_eos, use_beam_search, length_penalty, structured_outputs and the
    `guided_` fields: as in vLLM. best_of: texts that are written for the `n` best of them.
    deadline_s: seconds until the answer has to be whole.
    """

    model: Name | None = None
    recipe: Name | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    ignore_eos: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    use_beam_search: bool | None = None
    length_penalty: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Common):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None


class CompletionRequest(Common):
    """The body of `/v1/completions`: a prompt is a text or token ids, one or several of them.

    echo: the prompt stands before each text, and its tokens before those of the text's logprobs.
    """

    prompt: (
        str
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES)]
        | Annotated[
            list[Annotated[list[Token], Field(min_length=1)]],
            Field(min_length=1, max_length=MOST_CHOICES),
        ]
    )
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: bool | None = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """Every prompt, in order."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt
