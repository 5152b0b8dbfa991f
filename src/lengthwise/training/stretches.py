"""The rows of a run that was made longer after it had begun.

A run shorter than an epoch reads the same share of every length (`Curriculum.shortened`), in an
order that ends when the run does. Made longer, it keeps what it has read and reads on.
The steps added are a curriculum of their own, from short rows to long ones. Its rows are those that
the shuffle has not come to yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from lengthwise.sequences.curricula import Curriculum, Draw, shuffled


@dataclass(frozen=True)
class Stretches:
    """Curricula one after another. ends: the steps at which all but the last one end; total: where
    the last one does. Each of those that `ends` end is shorter than an epoch of `whole`.

    Raises SequenceError where a stretch has too few steps for the curriculum's cycles.
    """

    whole: Curriculum
    ends: Sequence[int]
    total: int

    def __post_init__(self) -> None:
        # What cannot be drawn is found now and not when it is reached.
        _ = self._parts

    def draw(self, step: int, rank: int = 0, world: int = 1) -> Draw:
        """What `rank` of `world` reads in a step, counted from the start of the run."""
        number = int(np.searchsorted(self.ends, step, side="right"))
        first, part, before = self._parts[number]
        epoch, inside = divmod(step - first, part.steps_per_epoch)
        # Each stretch has another order of lengths than those before.
        drawn = part.draw(epoch + number, inside, rank, world)
        if number == 0:
            return drawn
        length, earlier = part.occurrence(epoch + number, inside)
        count = part.tokens_per_step // length
        place = before.get(length, 0) + (epoch * part.batches[length] + earlier) * count
        places = np.arange(place, place + count, dtype=np.int64)
        rows = shuffled(places, part.buckets[length], part.seed, "rows", 0, length)
        return replace(drawn, rows=rows[rank::world])

    @cached_property
    def _parts(self) -> list[tuple[int, Curriculum, dict[int, int]]]:
        """The first step of each stretch, its curriculum, and rows of each length read before."""
        found: list[tuple[int, Curriculum, dict[int, int]]] = []
        before: dict[int, int] = {}
        for first, end in pairwise((0, *self.ends, self.total)):
            part = self.whole.shortened(end - first)
            found.append((first, part, dict(before)))
            for length, steps in part.batches.items():
                rows = steps * (part.tokens_per_step // length)
                before[length] = before.get(length, 0) + rows
        return found
