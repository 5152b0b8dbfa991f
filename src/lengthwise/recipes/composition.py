"""The methods of a recipe put together: no rule refuses them, and one placement is left.

A `Piece` is a method seen through its hooks, its placement and its flags on one model; what two of
them may not do stands in `rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from lengthwise.engine.kv_cache.placement import ORDINARY, Placement
from lengthwise.errors import Refused
from lengthwise.recipes.piece import Piece
from lengthwise.recipes.rules import RULES


def compose(pieces: Sequence[Piece]) -> Placement:
    """The placement of all pieces together.

    Args:
        pieces: the methods of a recipe.

    Raises:
        Refused: by the first rule that is broken.
    """
    for rule in RULES:
        for a, b in permutations(pieces, 2):
            refusal = rule(a, b)
            if refusal is not None:
                raise refusal
    if not any("start_drafter" in piece.hooks for piece in pieces):
        for piece in pieces:
            if piece.hooks & {"start_verifier", "start_policy"}:
                raise Refused(
                    f"{piece.name} decides about guesses and this recipe has nobody who guesses",
                    f"add a drafter, as in lookup + {piece.name}",
                )
    placed = [piece for piece in pieces if piece.placement is not None]
    placed.sort(key=lambda piece: piece.gives_way)
    return placed[0].placement or ORDINARY if placed else ORDINARY


__all__ = ["compose"]
