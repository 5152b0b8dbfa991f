"""Which heads can do with fewer coordinates: a greedy search over ranks.

In rounds: the last hidden state is compared with what it is where one head alone loses d/4 of its
keys or of its values. The three quarters of the heads that move it least lose them. As in the
authors' code the next round compares with what was left by the last, and each head keeps d/4.

The authors stop at a budget. Here the order of all losses is kept, so any budget can be had of it,
to one loss of one head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.methods.codecs.projections import (
    PARTS,
    SAMPLE,
    AllBases,
    AllRanks,
    Head,
    Progress,
    Truncated,
    heads_of,
    ranks_of,
    read,
    text_of,
)
from lengthwise.models.adapted_model import AdaptedModel

# Tokens of the text that ranks are tried on, of how many one is compared, copies that are read in
# one forward, and the newest keys that a query sees whole.
SEARCHED, EVERY, COPIES, RECENT = 96, 4, 8, 32
# The share of the heads that lose some in a round (the authors' 24 of 32).
ROUND = 0.75


@torch.no_grad()
def search(
    model: AdaptedModel, bases: AllBases, progress: Progress | None = None
) -> list[list[int]]:
    """The order in which heads lose 1 / PARTS of their coordinates, cheapest first.

    Args:
        model: the adapted model.
        bases: of its keys and values.
        progress: is given trials done and in all.

    Returns:
        [kind (0: keys), layer, head] of every loss, until each head has one part left.
    """
    length = min(SEARCHED, model.trained_length - 1) // EVERY * EVERY
    ids = text_of(model, SAMPLE)[-length:]
    heads = heads_of(model)
    each = max(1, round(ROUND * len(heads)))
    parts, order = dict.fromkeys(heads, PARTS), []
    done, total = 0, _trials(len(heads), each)
    while open_ := [head for head in heads if parts[head] > 1]:
        errors: dict[Head, float] = {}
        for start in range(0, len(open_), COPIES):
            some = open_[start : start + COPIES]
            tried = [ranks_of(model, parts | {head: parts[head] - 1}) for head in some]
            moves = moved(model, bases, ids, [ranks_of(model, parts), *tried])
            errors |= dict(zip(some, moves, strict=True))
            done += len(some)
            if progress is not None:
                progress(min(done, total), total)
        for head in sorted(open_, key=errors.__getitem__)[:each]:
            parts[head] -= 1
            order.append(list(head))
    return order


def _trials(heads: int, each: int) -> int:
    """About how many heads are tried, some round after round until all have one part left."""
    rounds = -(-(PARTS - 1) * heads // each)
    return heads * rounds


def moved(model: AdaptedModel, bases: AllBases, ids: Tensor, tried: list[AllRanks]) -> list[float]:
    """How far the last hidden states move from those of the first ranks, as a share of these.

    Args:
        model: the adapted model.
        bases: of its keys and values.
        ids: one text, a multiple of EVERY tokens.
        tried: ranks; the first are compared with.

    Returns:
        A number for each of the others.
    """
    reader = Truncated(model, len(ids), bases, tried, recent=RECENT)
    found = read(model, ids.repeat(len(tried)), reader, EVERY)
    rows = found.float().unflatten(0, (len(tried), -1))
    return [float((row - rows[0]).norm() / rows[0].norm()) for row in rows[1:]]


__all__ = ["moved", "search"]
