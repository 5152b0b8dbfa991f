"""CLEX on a tiny model: frequencies along the law, and along a path learned on short rows.

See `lengthened`: trained to 256 tokens. CLEX tunes weights and scale network on rows of 256 with
random scales up to 4, at two rates of learning. PI tunes weights on rows of 256 and on rows of
1,024. All read equally many tokens. `above` is a loss less that of the untuned model in rows of
256, the trained length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.positions import lengthened

LARGEST = 4


@check({"model": "", "tuned on rows of": "", "recipe": "", "256": ".3f", "512": ".3f",
        "1024": ".3f", "above at 512": ".3f", "above at 1024": ".3f"})  # fmt: skip
def clex(
    folder: Path, steps: int = lengthened.STEPS, tune: int = lengthened.TUNED
) -> Iterator[Found]:
    """Untuned, along the law; tuned, along the learned path; and PI tuned equally."""
    rows, ids = lengthened.prepare(folder), lengthened.held_out(folder)
    untuned = lengthened.opened(lengthened.base(folder, rows, steps))
    trained = lengthened.losses(untuned, ids)["256"]
    learned = {"name": "clex", "max_factor": LARGEST}
    linear = {"name": "pi", "factor": LARGEST}
    ways = (
        ("untuned", "", untuned, "full"),
        ("untuned", "", untuned, f"clex(max_factor={LARGEST}, network=false)"),
        ("tuned at 1e-3", "256", ("clex", learned, 1e-3), f"clex(max_factor={LARGEST})"),
        ("tuned at 1e-4", "256", ("clex-slow", learned, 1e-4), f"clex(max_factor={LARGEST})"),
        ("tuned under pi", "256", ("pi-short", linear, 1e-3), "full"),
        ("tuned under pi", "1024", ("pi", linear, 1e-3), "full"),
    )
    for model, length, how, recipe in ways:
        if isinstance(how, tuple):
            name, positions, rate = how
            place = lengthened.tuned(folder, name, rows[int(length)], tune, positions, rate)
            read = lengthened.opened(place)
        else:
            read = how
        found = lengthened.losses(read, ids, recipe)
        above = {f"above at {n}": round(found[n] - trained, 4) for n in ("512", "1024")}
        yield {"model": model, "tuned on rows of": length, "recipe": f"`{recipe}`",
               **found, **above}  # fmt: skip
