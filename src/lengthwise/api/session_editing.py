"""Editing what a session has read: what stands behind an edit is kept and moved (PIE).

He and others, "Let the Code LLM Edit Itself When You Edit the Code", 2024. The edited text is
encoded again and its ids are aligned with those that are held, so a tokenizer may join across the
edit what it likes.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np

from lengthwise.api.held_model import HeldModel
from lengthwise.api.session_prompt import Source
from lengthwise.api.session_reading import (
    fresh_sequence,
    read_to,
    require_session_room,
    whole_blocks,
)
from lengthwise.engine.kv_cache.editing import FirstKeys, why_not_movable
from lengthwise.engine.kv_cache.rollback import roll_back
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.mixed import replace_tokens
from lengthwise.engine.plan import whole
from lengthwise.errors import Refused
from lengthwise.recipes import Recipe

MOVED = (
    "this session was edited: what stands behind an edit was kept as it was read before, so this "
    "is not what one call gives; session.edit(..., exact=True) reads again"
)


@dataclass(frozen=True)
class Stale:
    """Entries that have not seen all that stands before them now.

    why: what answers have to say of it. start: the first of them. first: keys as they were
    computed, where they are turned more than once in 16 bits.
    """

    why: str
    start: int
    first: FirstKeys | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of keys held beside the cache."""
        return 0 if self.first is None else self.first.nbytes


@dataclass(frozen=True)
class Held:
    """What a session holds: what was read, its ids, the cache, and what is stale in it."""

    source: Source
    tokens: list[int]
    sequence: Sequence
    stale: Stale | None = None


def edit_held(
    model: HeldModel, recipe: Recipe, held: Held, span: tuple[int, int], text: Any, exact: bool,
    chunk: int | None,
) -> Held:  # fmt: skip
    """What a session holds once a part of what it has read is replaced; `held` stays as it is.

    Args:
        model: that has read it.
        recipe: under which.
        held: what the session holds.
        span: start and stop of what is replaced.
        text: what comes in its place.
        exact: read again from the edit on.
        chunk: tokens of a forward; None leaves it to the device.

    Raises:
        Refused: where the entries behind the edit cannot be moved.
    """
    source = held.source.edit(model, span, text)
    tokens, stable = source.prefix(model)
    if tokens == held.tokens:
        return Held(source, tokens, held.sequence, held.stale)
    require_session_room(model, whole(held.sequence.plan), len(tokens))
    if exact:
        return Held(source, tokens, _read_again(model, recipe, held, tokens, stable, chunk))
    reason = why_not_movable(held.sequence, len(tokens))
    if reason is not None:
        raise Refused(
            f"a session of {recipe} cannot keep what stands behind an edit: {reason}",
            "give exact=True, which reads again from the edit on",
        )
    new = tokens[:stable]
    start, stop, behind = aligned(held.sequence.tokens, new)
    before = held.stale
    sequence, first = replace_tokens(
        held.sequence, start, stop, new[start:behind], None if before is None else before.first,
        chunk,
    )  # fmt: skip
    if stop == len(held.sequence) and (before is None or start <= before.start):
        # Nothing stands behind the edit, so all of it was read as one call would.
        sequence.stale = False
        return Held(source, tokens, sequence)
    why, low = (MOVED, behind) if before is None else (before.why, min(before.start, behind))
    return Held(source, tokens, sequence, Stale(why, low, first))


def _read_again(
    model: HeldModel, recipe: Recipe, held: Held, tokens: list[int], stable: int,
    chunk: int | None,
) -> Sequence:  # fmt: skip
    """A sequence that has read the new text as one call would, from the edit on if it can."""
    old = held.sequence
    start = aligned(old.tokens, tokens)[0]
    if held.stale is not None:
        start = min(start, held.stale.start)
    sequence = _until(old, start) or fresh_sequence(model, whole(old.plan), len(tokens))
    end = whole_blocks(sequence, recipe, chunk, stable)
    if old.prompt_length is not None:
        end = len(tokens)
    read_to(sequence, tokens, end, chunk)
    if old.prompt_length is not None:
        sequence.end_prefill()
    return sequence


def _until(sequence: Sequence, length: int) -> Sequence | None:
    """A copy that has read the first `length` tokens alone; None where it cannot be cut."""
    if not length:
        return None
    found = sequence.fork()
    for _, group in found.groups():
        # What others hold too cannot be cut.
        group.near.own()
    found.stale = False
    return found if roll_back(found, length) else None


def aligned(old: Seq[int], new: Seq[int]) -> tuple[int, int, int]:
    """Where two texts differ, by what they begin and end with.

    Args:
        old: token ids.
        new: token ids.

    Returns:
        `start, stop, behind`: tokens `start:stop` of the old text are `start:behind` of the new.
    """
    first, second = np.asarray(list(old)), np.asarray(list(new))
    most = min(len(first), len(second))
    start = _same(first[:most], second[:most])
    rest = most - start
    same = _same(first[::-1][:rest], second[::-1][:rest])
    return start, len(first) - same, len(second) - same


def _same(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> int:
    """Equal items at the beginning of two arrays of one length."""
    unequal = np.flatnonzero(first != second)
    return int(unequal[0]) if len(unequal) else len(first)


__all__ = ["Held", "aligned", "edit_held"]
