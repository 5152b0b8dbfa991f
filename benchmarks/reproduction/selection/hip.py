"""HiP with masks of its own at every step and with shared ones, and the mass that it finds."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.selection.copying import COLUMNS, LENGTH, masses, mean, rows

from lengthwise.engine.plan import FULL
from lengthwise.methods.selection.hip import HiP

SETTINGS = {
    "full attention": FULL,
    "`hip`": HiP(),
    "**`hip(interval=1)`: every step searches** (best known)": HiP(interval=1),
    "`hip(budget=1024, block=4, init=64)`": HiP(budget=1024, block=4, init=64),
    "`hip(budget=1024, block=4, init=64, sample=first)`":
        HiP(budget=1024, block=4, init=64, sample="first"),
    "`hip(interval=2)`": HiP(interval=2),
    "`hip(interval=64)`: a mask lasts until the window moves": HiP(interval=64),
    "`hip(interval=1, sample=first)`: halves scored by their first block":
        HiP(interval=1, sample="first"),
    "`hip(interval=1, dense=0)`: every layer searches": HiP(interval=1, dense=0),
    "`hip(budget=1024, block=4, init=64, interval=1)`":
        HiP(budget=1024, block=4, init=64, interval=1),
}  # fmt: skip
GROUPS = {"0 to 2": slice(0, 3), "3 to 11": slice(3, 12), "12 to 29": slice(12, 30),
          "all": slice(0, 30)}  # fmt: skip


@check(COLUMNS)
def hip(length: int = LENGTH) -> Iterator[Found]:
    """How long a mask serves, which block stands for a half, how many layers search."""
    yield from rows(SETTINGS, length)


@check({"layers": "", "MASS, middle blocks": ".3f", "first blocks": ".3f",
        "exact best blocks": ".3f", "a random choice": ".3f"})  # fmt: skip
def mass(length: int = LENGTH) -> Iterator[Found]:
    """MASS of what a search finds, in every layer at every step."""
    middle, first = (
        masses(HiP(dense=0, interval=1, sample=each), length, HiP().block)
        for each in ("middle", "first")
    )
    for name, layers in GROUPS.items():
        yield {
            "layers": name, "MASS, middle blocks": mean(middle["mass"][layers]),
            "first blocks": mean(first["mass"][layers]),
            "exact best blocks": mean(middle["best"][layers]),
            "a random choice": mean(middle["random"][layers]),
        }  # fmt: skip
