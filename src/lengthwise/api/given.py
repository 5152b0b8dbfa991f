"""What may be given in more than one way: one string for a list of it, keywords by wrong names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from lengthwise._utils.suggestions import closest
from lengthwise.errors import LengthwiseError

P = ParamSpec("P")
R = TypeVar("R")

# What other libraries call it, or do in another place.
INSTEAD = {
    "do_sample": "give temperature=0.7 or so to sample; without one, it is greedy",
    "max_length": "give max_new_tokens",
    "max_tokens": "give max_new_tokens",
    "eos_token_id": "give stop_ids",
    "stop_strings": "give stop",
    "stopping_criteria": "give it to generate of transformers, with custom_generate",
    "logits_processor": "give it to generate of transformers, with custom_generate",
    "streamer": "give stream, a function that is called with each piece of text",
    "num_beams": "give it to search, or write beam(width=4) into the recipe",
    "num_return_sequences": "give it to search, or the prompt several times to generate_batch",
    "frequency_penalty": "give repetition_penalty",
    "presence_penalty": "give repetition_penalty",
}


def texts(what: str, given: str | Iterable[str]) -> list[str]:
    """One string or several as a list.

    Args:
        what: the argument's name, for the error.
        given: what stands there.

    Raises:
        LengthwiseError: for what is no string, and for empty ones.
    """
    found = [given] if isinstance(given, str) else _list(given)
    if found is None or not all(isinstance(each, str) and each for each in found):
        raise LengthwiseError(
            f"{what}={given!r}: give a string or a list of strings, none of them empty"
        )
    return found


def whole(given: object) -> bool:
    """Whether this is a whole number, of Python or numpy."""
    return isinstance(given, (int, np.integer)) and not isinstance(given, (bool, np.bool_))


def require_count(what: str, given: object) -> None:
    """Refuses anything but a whole number of 1 or more.

    Args:
        what: the argument's name, for the error.
        given: what stands there.

    Raises:
        LengthwiseError: for anything else.
    """
    if not whole(given):
        raise LengthwiseError(f"{what}={given!r}: give a whole number")
    if given < 1:  # type: ignore[operator]
        raise LengthwiseError(f"{what}={given}: give at least 1")


def _list(given: object) -> list[Any] | None:
    return list(given) if isinstance(given, Iterable) else None


def known_options(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which names the nearest option for a keyword that it does not know.

    Args:
        function: its keyword-only parameters are the options.
    """
    parameters = inspect.signature(function).parameters.values()
    known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    named = {each.name for each in parameters}
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    spelt = [each.name for each in parameters if each.kind not in several and each.name != "self"]

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        for name in options:
            if name in named:
                continue
            near = closest(name, spelt)
            else_ = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
            way = INSTEAD.get(name, else_)
            raise LengthwiseError(f"{name!r} is no option of {function.__name__}; {way}")
        return function(*args, **options)

    return call


def shown_as(
    other: Callable[..., object], without: tuple[str, ...] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Gives a function that takes another one's keywords that one's signature, for `help` and for
    what editors show, and `known_options`.

    Args:
        other: whose parameters are shown too.
        without: keywords that the function does not take.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function)
        taken = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        names = {p.name for p in taken} | set(without)
        theirs = inspect.signature(other).parameters.values()
        more = [p for p in theirs if p.kind is p.KEYWORD_ONLY and p.name not in names]
        function.__signature__ = own.replace(parameters=[*taken, *more])  # type: ignore[attr-defined]
        return known_options(function)

    return decorate
