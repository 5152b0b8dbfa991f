"""MatryoshkaKV at a share of the bytes, beside ThinK with KIVI at as many.

`matryoshka` needs what `lengthwise calibrate matryoshka` trains, and makes it where it is missing;
`untrained` has the bases of PCA alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.codecs.slices import COLUMNS, FED, LENGTH, SLICES, recipes
from benchmarks.reproduction.harness import Found, check, load

from lengthwise.methods.calibration import find
from lengthwise.methods.codecs.learned_bases import TRAINED, calibrate_bases, keep_bases
from lengthwise.methods.codecs.matryoshka import Matryoshka

# KIVI alone with 4 bits holds 0.388 of 1,536 tokens; this pair holds what is asked for here.
PAIR = "think(ratio=0.2) + kivi(bits=4, residual=208)"


def at(share: float, *settings: Matryoshka) -> list[str]:
    """Recipes that hold a share of the bytes of a prompt."""
    model = load("bfloat16").adapted
    return [str(each.at_share(share, model, LENGTH - FED)) for each in settings]


@check(COLUMNS)
def matryoshka(share: float = 0.4, slices: int = SLICES) -> Iterator[Found]:
    """Trained bases with searched and with equal ranks, and with the first tokens whole."""
    model = load("bfloat16").adapted
    if find(TRAINED, model) is None:
        keep_bases(model, calibrate_bases(model))
    each = [Matryoshka(first=first, searched=searched)
            for first in (0, 4) for searched in (True, False)]  # fmt: skip
    yield from recipes([PAIR, *at(share, *each)], slices)


@check(COLUMNS)
def untrained(share: float = 0.4, slices: int = SLICES) -> Iterator[Found]:
    """Bases of PCA, equal ranks: where training starts."""
    each = [Matryoshka(first=first, trained=False) for first in (0, 4)]
    yield from recipes(at(share, *each), slices)
