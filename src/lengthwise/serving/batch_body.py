"""Bodies of a batch file: what a request asks of the engine, and what its answer looks like.

`asks_of` is the one place that reads a body; field names and defaults are those of OpenAI.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from lengthwise._utils.suggestions import did_you_mean
from lengthwise.api.generation import Generation
from lengthwise.api.given import require_count
from lengthwise.api.held_model import HeldModel
from lengthwise.engine.sampling import Sampling, row_seed
from lengthwise.errors import ConstraintError, LengthwiseError, NotFinite, OutOfMemory, RecipeError
from lengthwise.methods.decoding.structured_output import FIELDS, structured_output
from lengthwise.recipes import Recipe, parse
from lengthwise.serving.batch_files import Line
from lengthwise.serving.job import Ask

CHAT = "/v1/chat/completions"
# What is written where nothing is said: OpenAI's 16 for texts; a chat's answer is longer.
TEXT_TOKENS, CHAT_TOKENS = 16, 512
# Names that tell a caller from others and change no answer.
_LABELS = ("metadata", "user")
_FIELDS = (
    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p",
    "repetition_penalty", "seed", "stop", "n", "ignore_eos", "model", "recipe",
)  # fmt: skip
_MOST_CHOICES = 32


@dataclass(frozen=True)
class Names:
    """What the model is called in bodies, the first name being shown, and the recipe of requests
    that name none."""

    known: tuple[str, ...]
    recipe: Recipe

    def choose(self, name: str | None, recipe: str | None) -> Recipe:
        """The recipe of a request; it may stand in the name of the model, behind a colon.

        Args:
            name: the field `model`; None is the model there is.
            recipe: the field `recipe`; None leaves it to the name.

        Raises:
            LengthwiseError: for another model, and for two recipes.
            RecipeError: for a recipe that cannot be read.
        """
        behind: str | None = None
        if name is not None:
            for known in sorted(self.known, key=len, reverse=True):
                if name.lower() == known.lower() or name.lower().startswith(f"{known.lower()}:"):
                    behind = name[len(known) + 1 :] or None
                    break
            else:
                raise LengthwiseError(
                    f"there is no model {name!r} here; known are {', '.join(self.known)}; --name "
                    "gives it another name"
                )
        if recipe is not None and behind is not None and recipe != behind:
            raise LengthwiseError(f"two recipes are given, {behind!r} and {recipe!r}; give one")
        text = recipe or behind
        return self.recipe if text is None else parse(text)


def names_of(model: HeldModel, recipe: Recipe, more: Seq[str] = ()) -> Names:
    """The names of a model: its own, the end of its path, and those it is given.

    Args:
        model: that runs the job.
        recipe: of requests that name none.
        more: names given by whoever runs the job; the first of them is shown.
    """
    own = PurePath(model.name.rstrip("/")).name.removesuffix(".gguf")
    known = [name for name in (*more, own, model.name) if name]
    return Names(tuple(dict.fromkeys(known)), recipe)


def asks_of(line: Line, names: Names, model: HeldModel) -> list[Ask]:
    """The texts that the body of a line asks for: `n` of one prompt.

    Args:
        line: of IN, with a request.
        names: of the model, and the recipe of requests that name none.
        model: whose tokenizer and template make ids of the prompt.

    Raises:
        LengthwiseError: for a body that asks for something else than this.
    """
    given = {name: value for name, value in (line.body or {}).items() if value is not None}
    prompt = "messages" if line.url == CHAT else "prompt"
    if given.pop("stream", False):
        raise LengthwiseError("stream: a batch has nobody to stream to; leave it out")
    known = (prompt, *_FIELDS, *FIELDS)
    for name in given:
        if name not in known and name not in _LABELS:
            near = did_you_mean(name, known, f"; known are {', '.join(known)}")
            raise LengthwiseError(f"{name!r} is no field of {line.url}{near}")
    for name in ("model", "recipe"):
        if not isinstance(given.get(name, ""), str):
            raise LengthwiseError(f"{name}={given[name]!r}: give a text")
    recipe = names.choose(given.get("model"), given.get("recipe"))
    constraint = structured_output(given)
    if constraint is not None:
        recipe = Recipe((*recipe.methods, constraint))
    count = given.get("n", 1)
    require_count("n", count)
    if count > _MOST_CHOICES:
        raise LengthwiseError(f"n={count}: allowed are 1 to {_MOST_CHOICES}")
    ids, most, stop = _ids(prompt, given.get(prompt), model), _most(given, prompt), _stops(given)
    stop_ids = () if given.get("ignore_eos") else None
    seed = given.get("seed", _seed_of(line))
    return [
        Ask(ids, recipe, most, _sampling(given, seed, row), stop, stop_ids) for row in range(count)
    ]


def _ids(name: str, prompt: Any, model: HeldModel) -> list[int]:
    """Ids of a prompt: a text or ids, or the messages of a chat."""
    if name == "messages":
        if not isinstance(prompt, list) or not prompt or not isinstance(prompt[0], Mapping):
            raise LengthwiseError('messages: give a list of {"role": ..., "content": ...}')
        return model.encode(prompt)
    if isinstance(prompt, str):
        # What a client writes is text, whatever is written in it; who means tokens gives ids.
        return model.encode(prompt, "text")
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return model.encode(prompt)
    raise LengthwiseError("prompt: give one text, or one list of token ids")


def _most(given: Mapping[str, Any], prompt: str) -> int:
    """Tokens of a text, at most."""
    names = ("max_tokens", "max_completion_tokens")
    found = {name: given[name] for name in names if name in given}
    for name, count in found.items():
        require_count(name, count)
    if len(set(found.values())) > 1:
        raise LengthwiseError("max_tokens and max_completion_tokens differ; give one")
    return int(next(iter(found.values()), CHAT_TOKENS if prompt == "messages" else TEXT_TOKENS))


def _stops(given: Mapping[str, Any]) -> tuple[str, ...]:
    stop = given.get("stop", ())
    several = [stop] if isinstance(stop, str) else stop
    if not isinstance(several, list | tuple) or not all(isinstance(s, str) and s for s in several):
        raise LengthwiseError(f"stop={stop!r}: give a text or a list of texts, none of them empty")
    return tuple(several)


def _sampling(given: Mapping[str, Any], seed: Any, row: int) -> Sampling:
    """As OpenAI's, whose temperature is 1 where nothing is said."""
    temperature = given.get("temperature", 1.0)
    penalty = given.get("repetition_penalty", 1.0)
    # Sampling says what seeds there are.
    first = Sampling(seed=seed).seed
    if temperature == 0:
        # The likeliest token is among the likeliest, however many of them there may be.
        return Sampling(repetition_penalty=penalty, seed=row_seed(first, row))
    return Sampling(
        temperature, given.get("top_k", 0), given.get("top_p", 1.0), given.get("min_p", 0.0),
        penalty, row_seed(first, row),
    )  # fmt: skip


def _seed_of(line: Line) -> int:
    """The seed of a request that names none: its own, and the same whenever it is run."""
    digest = hashlib.sha256(repr(line.key).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def answer(line: Line, asks: Seq[Ask], texts: Seq[Generation], name: str, identity: str) -> Any:
    """The body of an answer.

    Args:
        line: of the request.
        asks: what was asked.
        texts: one for each.
        name: of the model.
        identity: letters and digits that no other answer has.

    Returns:
        An object of JSON: a chat's completion or a text's.
    """
    chat = line.url == CHAT
    read, written = len(asks[0].ids), sum(len(text.token_ids) for text in texts)
    kind, made = ("chatcmpl", "chat.completion") if chat else ("cmpl", "text_completion")
    return {
        "id": f"{kind}-{identity}", "object": made, "created": int(time.time()), "model": name,
        "choices": [_choice(chat, number, text) for number, text in enumerate(texts)],
        "usage": {
            "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written,
            "prompt_tokens_details": {
                "cached_tokens": max(text.metrics.reused_tokens for text in texts)
            },
        },
    }  # fmt: skip


def _choice(chat: bool, index: int, text: Generation) -> dict[str, Any]:
    said: dict[str, Any] = {"text": text.text}
    if chat:
        said = {"message": {"role": "assistant", "content": text.text}}
    return {"index": index, **said, "logprobs": None, "finish_reason": text.metrics.finish_reason}


def refusal(error: Exception) -> tuple[int, dict[str, Any]]:
    """The status and the body that say why a request has no answer.

    Args:
        error: what was raised; a LengthwiseError says what whoever asks can mend.
    """
    status, code = 500, "internal_error"
    for kind, found in (
        (NotFinite, (500, "not_finite")), (OutOfMemory, (503, "out_of_memory")),
        (ConstraintError, (422, "constraint")),
        (RecipeError, (422, "recipe_refused")), (LengthwiseError, (400, "invalid_value")),
    ):  # fmt: skip
        if isinstance(error, kind):
            status, code = found
            break
    kind_of = "invalid_request_error" if status < 500 else "server_error"
    said = {"message": str(error) or repr(error), "type": kind_of, "param": None, "code": code}
    return status, {"error": said}


__all__ = ["Names", "answer", "asks_of", "names_of", "refusal"]
