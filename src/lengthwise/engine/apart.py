"""Documents read apart: each behind a copy of one prefix, then joined into one sequence.

A document's queries see the prefix and the document itself, and it begins at the position behind
the prefix, as every other does. What follows stands behind the longest of them
(`kv_cache.contexts`).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch

from lengthwise.engine import loop
from lengthwise.engine.continuing import read_on
from lengthwise.engine.kv_cache.cache_plan import CachePlan
from lengthwise.engine.kv_cache.contexts import Apart, Contexts
from lengthwise.engine.kv_cache.sequence import Sequence


def read_apart(
    prefix: Sequence, tokens: Seq[int], chunk: int | None = None,
    progress: loop.Progress | None = None,
) -> Sequence:  # fmt: skip
    """Reads one document behind a prefix.

    Args:
        prefix: has read it, under a plan with `contexts`; it is not changed.
        tokens: of the document, one at least.
        chunk: tokens of a forward; None leaves it to the device.
        progress: called with the number of tokens of each forward.

    Returns:
        A sequence of prefix and document, in which that is the only one read apart.
    """
    start, sequence = len(prefix), prefix.fork()
    read_on(sequence, tokens, chunk, progress)
    rule = sequence.plan.contexts
    assert rule is not None
    for _, group in sequence.groups():
        read = group.near.read()
        assert read is not None
        # In memory of its own, without the prefix and the room behind.
        document = [read.slice(start, len(read)).clone()]
        group.contexts = Contexts.of(document, start, rule, sequence.plan.codec is not None)
        group.near.replace(read.slice(0, start))
    sequence.apart = Apart(start, (len(tokens),))
    open_behind(sequence, prefix.offset)
    return sequence


def join(sequences: Seq[Sequence], plan: CachePlan | None = None) -> Sequence:
    """The documents of several sequences in one, in their order.

    Where no codec is to encode them, the entries of several are copied side by side, so that a
    query reads them as one. Otherwise they are shared.

    Args:
        sequences: with documents read apart behind the same prefix, and nothing behind them. They
            are not changed.
        plan: of the new sequence, with the same positions; None is that of the first.
    """
    first = sequences[0]
    apart = _apart(first)
    new = first.fork(plan)
    rule = new.plan.contexts
    assert rule is not None
    each = [list(sequence.groups()) for sequence in sequences]
    for (_, group), *held in zip(new.groups(), *each, strict=True):
        documents = [
            document
            for (_, other), sequence in zip(held, sequences, strict=True)
            if other.contexts is not None
            for document in other.contexts.documents(_apart(sequence).lengths)
        ]
        encodes = new.plan.codec is not None
        group.contexts = Contexts.of(documents, apart.prefix, rule, encodes)
    for sequence in sequences[1:]:
        new._tokens += sequence.tokens_from(apart.prefix)
        if new.noted is not None and sequence.noted is not None:
            new.noted = [*new.noted, torch.cat(sequence.noted)[apart.prefix - len(sequence) :]]
    lengths = [length for sequence in sequences for length in _apart(sequence).lengths]
    # They stand at the same positions, of which the longest has most.
    new.apart = Apart(apart.prefix, tuple(lengths), sum(lengths) - max(lengths))
    open_behind(new, first.offset + apart.shared)
    return new


def joinable(sequence: Sequence) -> bool:
    """Whether a sequence has documents read apart, nothing behind them and all of it as it was."""
    apart, rule = sequence.apart, sequence.plan.contexts
    if apart is None or rule is None or not rule.joins:
        return False
    return len(sequence) == apart.stop and sequence.prompt_length is None


def _apart(sequence: Sequence) -> Apart:
    assert sequence.apart is not None
    return sequence.apart


def open_behind(sequence: Sequence, offset: int = 0) -> None:
    """What follows stands behind all documents, and nothing is known of it yet.

    Args:
        sequence: in which documents are set apart.
        offset: added to every position.
    """
    sequence.offset = offset - _apart(sequence).shared
    sequence.reading = len(sequence)
    sequence.last_logits = None
    for layer in sequence.layers:
        layer.forget_queries()


__all__ = ["join", "joinable", "open_behind", "read_apart"]
