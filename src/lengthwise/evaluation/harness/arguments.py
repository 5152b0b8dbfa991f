"""What the harness hands over as text: arguments of the model, and of texts that are written."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import Any

from lengthwise._utils.suggestions import hint
from lengthwise.errors import LengthwiseError

_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "\"'"
# Tokens of a text, at most, where a task does not say, as in the harness's hf model.
MAX_GEN_TOKS = 256
# The first that is given holds.
_MOST = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = {
    "temperature": float, "top_k": int, "top_p": float, "min_p": float, "repetition_penalty": float,
}  # fmt: skip
# What asks for nothing but what is done anyway.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,), "num_return_sequences": (1,), "use_cache": (True,), "length_penalty": (1,),
    "early_stopping": (False,), "frequency_penalty": (0,), "presence_penalty": (0,),
}  # fmt: skip


def model_args(text: str) -> dict[str, Any]:
    """Arguments of a model that are written `name=value,name=value`.

    Commas within brackets and quotes belong to a value, so a recipe may stand as it is:
    `recipe=snapkv(budget=25%,window=32)+lookup,pretrained=FOLDER`.

    Args:
        text: as --model_args has it.

    Raises:
        LengthwiseError: for what is no name with a value, and a name that is given twice.
    """
    found: dict[str, Any] = {}
    for part in _parts(text):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise LengthwiseError(
                f'model_args: {part.strip()!r} is no name=value; quote a value with commas: "..."'
            )
        if name in found:
            raise LengthwiseError(f"model_args: {name} is given twice: give it once")
        found[name] = _value(value.strip())
    return found


def _parts(text: str) -> list[str]:
    """The text cut at commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in _QUOTES:
            quote = char
        elif char in _OPEN or char in _CLOSE:
            depth = max(0, depth + (1 if char in _OPEN else -1))
        elif char == "," and not depth:
            parts.append("")
            continue
        parts[-1] += char
    return [part for part in parts if part.strip()]


def _value(text: str) -> Any:
    lowered = {"true": True, "false": False, "none": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


@dataclass(frozen=True)
class Writing:
    """How a text is written. until: strings that end it. most: tokens, at most. sampling: keywords
    of `Model.generate`; none is greedy."""

    until: tuple[str, ...]
    most: int
    sampling: tuple[tuple[str, float], ...] = ()


def writing_of(given: Mapping[str, Any], most: int = MAX_GEN_TOKS) -> Writing:
    """What the generation_kwargs of a task ask for.

    Args:
        given: as the harness hands them over.
        most: tokens where they do not say.

    Raises:
        LengthwiseError: for what is not done here, and for values that are none.
    """
    asked = dict(given)
    until = asked.pop("until", None) or []
    until = [until] if isinstance(until, str) else list(until)
    if not all(isinstance(each, str) for each in until):
        raise LengthwiseError(f"generation_kwargs: until={until!r}: give strings")
    counts = [found for name in _MOST if (found := asked.pop(name, None)) is not None]
    return Writing(
        tuple(each for each in until if each), _count(counts[0] if counts else most),
        tuple(_sampling(asked).items()),
    )  # fmt: skip


def _count(given: Any) -> int:
    try:
        if int(given) >= 1:
            return int(given)
    except (TypeError, ValueError):
        pass
    raise LengthwiseError(f"generation_kwargs: max_gen_toks={given!r}: give a whole number from 1")


def _sampling(asked: dict[str, Any]) -> dict[str, float]:
    """Keywords of `Model.generate`; takes them out of what is asked, and refuses the rest."""
    do_sample, found = asked.pop("do_sample", None), {}
    for name, kind in _SAMPLING.items():
        value = asked.pop(name, None)
        if value is not None:
            try:
                found[name] = kind(value)
            except (TypeError, ValueError):
                raise LengthwiseError(
                    f"generation_kwargs: {name}={value!r}: give a number"
                ) from None
    _refuse(asked)
    hot = found.get("temperature", 0.0) > 0
    if do_sample and not hot:
        raise LengthwiseError(
            "generation_kwargs: do_sample=True without a temperature above 0: give temperature=1.0,"
            " or leave do_sample out"
        )
    if do_sample is False or not hot:
        # A greedy text is chosen by the likeliest token alone, whatever is left out of the others.
        return {n: v for n, v in found.items() if n == "repetition_penalty" and v != 1}
    return found


def _refuse(asked: Mapping[str, Any]) -> None:
    for name, value in asked.items():
        if name in _NEUTRAL and (value is None or value in _NEUTRAL[name]):
            continue
        allowed: Seq[str] = ("until", "do_sample", _MOST[0], *_SAMPLING)
        more = "; give max_gen_toks" if name == "max_length" else hint(name, allowed)
        raise LengthwiseError(f"generation_kwargs: {name}={value!r} is not done here{more}")


__all__ = ["MAX_GEN_TOKS", "Writing", "model_args", "writing_of"]
