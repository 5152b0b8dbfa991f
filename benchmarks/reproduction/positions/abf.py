"""ABF on a tiny model: its loss at two and four times the trained length, as it is and tuned.

See `lengthened`: trained to 256 tokens, tuned for minutes on rows of 1,024. `own` is tuned the same
under the frequencies that it has. `above` is the loss in rows of 1,024 less that of the untuned
model in rows of 256, the trained length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.positions import lengthened

COLUMNS = {"model": "", "recipe": "", "256": ".3f", "512": ".3f", "1024": ".3f",
           "above at 512": ".3f", "above at 1024": ".3f"}  # fmt: skip


def row(model: str, recipe: str, found: dict[str, float], trained: float) -> Found:
    """A row of the table, `trained` being the loss at the trained length."""
    above = {f"above at {n}": round(found[n] - trained, 4) for n in ("512", "1024")}
    return {"model": model, "recipe": f"`{recipe}`", **found, **above}


@check(COLUMNS)
def abf(
    folder: Path, steps: int = lengthened.STEPS, tune: int = lengthened.TUNED
) -> Iterator[Found]:
    """The base of 500,000 untuned and tuned, beside the model's own."""
    rows, ids = lengthened.prepare(folder), lengthened.held_out(folder)
    untuned = lengthened.opened(lengthened.base(folder, rows, steps))
    trained = lengthened.losses(untuned, ids)["256"]
    for recipe in ("full", "abf", "pi(factor=4)"):
        yield row("untuned", recipe, lengthened.losses(untuned, ids, recipe), trained)
    for name, positions in (
        ("own", {}), ("abf", {"name": "abf"}), ("pi", {"name": "pi", "factor": 4}),
    ):  # fmt: skip
        place = lengthened.tuned(folder, name, rows[1024], tune, positions)
        found = lengthened.losses(lengthened.opened(place), ids)
        yield row(f"tuned under {name}", "full", found, trained)
