"""The law of what may follow, before each piece of a continuation that is given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence as Seq
from typing import Any

from lengthwise.api.continuations import laws_along, score_continuations
from lengthwise.api.held_model import HeldModel
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import Forced, Law
from lengthwise.recipes import RecipeLike


def forced_laws(
    model: HeldModel, context: Seq[int], forced: Forced, recipe: RecipeLike = "full"
) -> list[Law]:
    """The probability of each alternative, behind a context and the pieces before.

    The context is read once, as a prompt. A piece of several tokens has their joint probability.

    Args:
        model: that is asked.
        context: ids of what is read.
        forced: what is given, and what might stand there.
        recipe: as for `Model.generate`.

    Returns:
        A law a piece; the rest to 1 is of what was not asked about.

    Raises:
        LengthwiseError: for a piece without tokens.
        Refused: where the recipe cannot serve this model or context.
    """
    pieces = [_ids(model, piece) for piece in forced.pieces]
    among = {text: _ids(model, text) for text in forced.among}
    long = {text: ids for text, ids in among.items() if len(ids) > 1}
    found: list[dict[str, float]] = [dict.fromkeys(among, 0.0) for _ in pieces]
    if len(long) < len(among):
        logs = laws_along(model, context, [token for piece in pieces for token in piece], recipe)
        place = 0
        for law, piece in zip(found, pieces, strict=True):
            law |= {text: float(logs[place, ids[0]].exp()) for text, ids in among.items()}
            place += len(piece)
    for law, chances in zip(found, _joint(model, context, pieces, long, recipe), strict=True):
        law |= chances
    return [*found]


def _joint(
    model: HeldModel, context: Seq[int], pieces: Seq[Seq[int]], among: Mapping[str, Seq[int]],
    recipe: RecipeLike,
) -> list[dict[str, float]]:  # fmt: skip
    """Chances of alternatives of several tokens, before each piece."""
    if not among:
        return [{} for _ in pieces]
    pairs: list[tuple[Seq[int], Seq[int]]] = []
    before: list[int] = []
    for piece in pieces:
        pairs += [(context, [*before, *ids]) for ids in among.values()]
        before += piece
    scored = iter(score_continuations(model, pairs, recipe, batch_size=len(among)))
    return [
        {text: math.exp(sum(next(scored).logprobs[-len(ids) :])) for text, ids in among.items()}
        for _ in pieces
    ]


def _ids(model: HeldModel, text: str) -> list[int]:
    tokenizer: Any = model._tokenizer()
    found: list[int] = tokenizer.encode(text, add_special_tokens=False)
    if not found:
        raise LengthwiseError(f"the tokenizer of {model.name} has no token for {text!r}")
    return found


__all__ = ["forced_laws"]
