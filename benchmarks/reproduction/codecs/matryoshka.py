"""MatryoshkaKV's trained bases and searched ranks beside PCA with equal ones, by share of bytes.

ThinK with KIVI at as many bytes stands in `codecs/think pairs`.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.codecs.slices import COLUMNS, recipes
from benchmarks.reproduction.harness import Found, check, load

from lengthwise.methods.calibration import find, save
from lengthwise.methods.codecs.matryoshka import KIND, calibrate_bases
from lengthwise.methods.codecs.projections import STEPS


@check(COLUMNS)
def matryoshka(shares: tuple[float, ...] = (0.75, 0.6, 0.4)) -> Iterator[Found]:
    """Each share with trained bases and with PCA's; trains where nothing is kept yet."""
    model = load("bfloat16").adapted
    if find(KIND, model) is None:
        save(KIND, model, calibrate_bases(model, STEPS, (_quiet, _quiet)))
    both = [f"matryoshka({how}share={share:g})" for share in shares
            for how in ("", "trained=false, ")]  # fmt: skip
    yield from recipes(both)


def _quiet(done: int, total: int) -> None:
    """Nothing: rows are what a check shows."""
