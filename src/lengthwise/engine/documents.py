"""Documents set apart from the text around them, read as the plan has them stand.

Each way is a function for one kind of `ContextRule`: each unseen by the others, all in sight of
each other, or one behind the other in fractional steps.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import singledispatch

import torch

from lengthwise.engine import loop
from lengthwise.engine.apart import join, open_behind, read_apart
from lengthwise.engine.continuing import read_on
from lengthwise.engine.kv_cache.contexts import (
    Apart,
    ContextRule,
    ContextWeights,
    FractionalSteps,
    Places,
)
from lengthwise.engine.kv_cache.order_free import OrderFree
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import Refused

# Positions may be off by this part of a step, for angles are made of float32.
_UNEVEN = 16


def read_documents(
    prefix: Sequence, documents: Seq[Seq[int]], chunk: int | None = None,
    progress: loop.Progress | None = None,
) -> Sequence:  # fmt: skip
    """Reads documents behind a prefix.

    Args:
        prefix: has read it, under a plan with `contexts`; it is not changed.
        documents: token ids of each, one at least.
        chunk: tokens of a forward; None leaves it to the device.
        progress: called with the number of tokens of each forward.

    Returns:
        A sequence of prefix and documents, to which text may be added.

    Raises:
        Refused: where the rule cannot serve as many tokens.
    """
    rule = prefix.plan.contexts
    assert rule is not None
    return _read(rule, prefix, documents, chunk, progress)


@singledispatch
def _read(
    rule: ContextRule, prefix: Sequence, documents: Seq[Seq[int]], chunk: int | None,
    progress: loop.Progress | None,
) -> Sequence:  # fmt: skip
    raise TypeError(f"nobody reads documents under a rule of type {type(rule).__name__}")


@_read.register
def _apart(
    rule: ContextWeights, prefix: Sequence, documents: Seq[Seq[int]], chunk: int | None,
    progress: loop.Progress | None,
) -> Sequence:  # fmt: skip
    return join([read_apart(prefix, each, chunk, progress) for each in documents])


@_read.register
def _order_free(
    rule: OrderFree, prefix: Sequence, documents: Seq[Seq[int]], chunk: int | None,
    progress: loop.Progress | None,
) -> Sequence:  # fmt: skip
    """All in one forward, whatever the chunk: a layer needs what all of them are in it."""
    sequence, start = prefix.fork(), len(prefix)
    lengths = tuple(map(len, documents))
    stop = start + sum(lengths)
    places = torch.cat([torch.arange(stop - length, stop) for length in lengths])
    sequence.places = Places(start, places)
    for layer in sequence.layers:
        layer.documents = lengths
    tokens = [token for each in documents for token in each]
    read_on(sequence, tokens, len(tokens), progress)
    for layer in sequence.layers:
        layer.documents = ()
    sequence.places = None
    sequence.apart = Apart(start, lengths)
    open_behind(sequence, prefix.offset)
    return sequence


@_read.register
def _in_steps(
    rule: FractionalSteps, prefix: Sequence, documents: Seq[Seq[int]], chunk: int | None,
    progress: loop.Progress | None,
) -> Sequence:  # fmt: skip
    sequence, start = prefix.fork(), len(prefix)
    lengths = tuple(map(len, documents))
    places, behind = rule.places(start, lengths)
    found = places.float()
    if float((found.double() - places).abs().max()) > rule.delta / _UNEVEN:
        gap = 2.0 ** (behind.bit_length() - 24)
        raise Refused(
            f"steps of {rule.delta:g} are uneven at position {behind:,}, where float32 goes on by "
            f"{gap:g}",
            f"take a step of {_UNEVEN * gap:g} or more, or a power of two",
        )
    sequence.places = Places(start, found)
    read_on(sequence, [token for each in documents for token in each], chunk, progress)
    sequence.places = None
    shared = len(sequence) - behind
    sequence.apart = Apart(start, lengths, shared)
    open_behind(sequence, prefix.offset)
    return sequence


__all__ = ["read_documents"]
