"""The prefix cache of a model: how large it is, and whose entries it holds."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from lengthwise.engine.prefix.cache import PrefixCache
from lengthwise.errors import LengthwiseError
from lengthwise.methods.budget import bytes_in
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.models.adapted_model import AdaptedModel


def bytes_of(name: str, given: int | str) -> int:
    """A number of bytes.

    Args:
        name: of the option, for the message.
        given: a number, or text such as "2GiB" or "500MB".

    Raises:
        LengthwiseError: for what is neither, and for less than 0.
    """
    found = -1
    if isinstance(given, str):
        with suppress(LengthwiseError):
            found = bytes_in(given)
    elif isinstance(given, int) and not isinstance(given, bool):
        found = given
    if found < 0:
        raise LengthwiseError(
            f"{name}={given!r}: give bytes, as a number from 0 or as text such as '2GiB' or '500MB'"
        )
    return found


def prefix_cache_of(model: AdaptedModel, cache_bytes: int | str) -> PrefixCache | None:
    """A cache of so many bytes for what prompts of a model begin with; None for no bytes.

    Args:
        model: whose entries are held.
        cache_bytes: see `bytes_of`.
    """
    capacity = bytes_of("cache_bytes", cache_bytes)
    return PrefixCache(capacity, partial(fingerprint_now, model)) if capacity else None


__all__ = ["bytes_of", "prefix_cache_of"]
