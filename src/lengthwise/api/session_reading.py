"""Reading for a session: what is refused, how far may be read before a question is known."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from os.path import commonprefix

from lengthwise.api.held_model import HeldModel
from lengthwise.engine import loop
from lengthwise.engine.continuing import read_on, unit
from lengthwise.engine.kv_cache.rollback import roll_back
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.reach import positions
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import Refused
from lengthwise.models.limits import require_positions
from lengthwise.recipes import Recipe


def refuse_by_length(recipe: Recipe) -> None:
    """Refuses what has to know beforehand how long a prompt will be.

    Args:
        recipe: of a session or a chat.

    Raises:
        Refused: with the method's name.
    """
    for method in recipe.methods:
        if method.reads_by_length:
            raise Refused(
                f"{method} decides while it reads by how long the whole prompt is, and a session "
                "does not know the questions yet",
                "give a budget in tokens, or give the whole prompt to generate",
            )


def require_session_room(
    model: HeldModel, plan: Plan, tokens: int, held: Sequence | None = None
) -> None:
    """Refuses what leaves no room for a question and an answer. held: has read the beginning."""
    taken = (tokens if held is None else positions(held, tokens)) + 1
    require_positions(model.adapted, taken)
    plan.check_prompt(taken, held is not None and held.apart is not None)


def fresh_sequence(model: HeldModel, plan: Plan, expected: int) -> Sequence:
    """A sequence that has read nothing, and notes what those who guess will want to know."""
    sequence = Sequence(model.adapted, plan, expected=expected)
    loop.begin(sequence, Sampling(), 1, ())
    return sequence


def beginning(
    sequence: Sequence, ids: Seq[int], recipe: Recipe, chunk: int | None
) -> Sequence | None:
    """A copy of a sequence, rolled back to what a prompt begins with; None where it cannot be.

    Args:
        sequence: what is held. Where nothing of it goes, its prompt may have ended.
        ids: of the prompt.
        recipe: under which it was read.
        chunk: tokens of a forward; None leaves it to the device.
    """
    if sequence.tokens == list(ids[: len(sequence)]):
        return sequence.branch()
    # First versions of keys that an edit moved are held beside them, and are not rolled back.
    if sequence.prompt_length is not None or sequence.stale:
        return None
    # One token is left to be read, for its logits.
    same = min(len(commonprefix([list(sequence.tokens), list(ids)])), len(ids) - 1)
    same, found = whole_blocks(sequence, recipe, chunk, same), sequence.branch()
    return found if same and roll_back(found, same) else None


def whole_blocks(sequence: Sequence, recipe: Recipe, chunk: int | None, length: int) -> int:
    """How much may be read before more is known: where a recipe plans for several tokens at once,
    only whole blocks of them."""
    if all(method.chunking_exact for method in recipe.methods):
        return length
    size = unit(sequence, chunk)
    return length // size * size


def read_to(
    sequence: Sequence, tokens: Seq[int], end: int, chunk: int | None,
    progress: loop.Progress | None = None,
) -> None:  # fmt: skip
    """Reads tokens up to one, and knows that more will follow."""
    new = tokens[len(sequence) : end]
    if not new:
        return
    if sequence.prompt_length is None:
        sequence.reading = max(sequence.reading, end + 1)
    read_on(sequence, new, chunk, progress)


__all__ = [
    "beginning", "fresh_sequence", "read_to", "refuse_by_length", "require_session_room",
    "whole_blocks",
]  # fmt: skip
