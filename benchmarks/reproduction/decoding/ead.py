"""EAD: what a text costs and is worth as the entropy threshold grows, on two real models."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.decoding.two_models import COLUMNS, Size, models, rows
from benchmarks.reproduction.harness import Found, check

THRESHOLDS = (0, 2, 3, 4, 5, 6)


@check(COLUMNS)
def ead(folder: str = "", prompts: int = 8, new: int = 48) -> Iterator[Found]:
    """Thresholds from one end to the other: 0 is the large model alone, the last the small one."""
    _, _, path = models(folder)
    recipes = [(f"threshold {t}", f"ead(model={path}, threshold={t})") for t in THRESHOLDS]
    recipes.append(("never", f"ead(model={path}, threshold=64, first=0)"))
    yield from rows(recipes, folder, Size(prompts, new))


@check({"window": "", "hold": "", "switches a text": ".1f"})
def switches(folder: str = "", prompts: int = 8, new: int = 48) -> Iterator[Found]:
    """How often the models change places, at a threshold of 1 bit."""
    _, _, path = models(folder)
    for window, hold in ((1, 1), (5, 1), (1, 5), (5, 5)):
        recipe = f"ead(model={path}, window={window}, hold={hold})"
        (row,) = rows([("", recipe)], folder, Size(prompts, new), alone=False)
        yield {"window": window, "hold": hold, "switches a text": row["switches a text"]}
