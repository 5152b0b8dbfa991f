"""EAD: what a text costs and is worth as the entropy threshold grows, on two real models."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.decoding.two_models import COLUMNS, NEW, PROMPTS, ids, models, rows
from benchmarks.reproduction.harness import Found, Note, check

THRESHOLDS = (0.5, 1.0, 1.5, 2.0, 3.0)


@check(COLUMNS, by_window={"window": "", "hold": "", "switches a text": ".1f"})
def ead(folder: str = "") -> Iterator[Found]:
    """Thresholds from one end to the other; at both ends texts are those of one model alone."""
    small, large, path = models(folder)
    same = {"small": 0, "large": 0}
    for prompt in PROMPTS:
        own = ids(small, prompt)

        def text(model: object, recipe: str, own: list[int] = own) -> list[int]:
            made = model.generate(own, recipe, max_new_tokens=NEW, stop_ids=[])  # type: ignore
            return list(made.token_ids)

        same["small"] += text(small, f"ead(model={path}, threshold=64, first=0)") == text(
            small, "full"
        )
        same["large"] += text(small, f"ead(model={path}, threshold=0)") == text(large, "full")
    yield Note({f"texts equal to the {name} model's": n for name, n in same.items()})
    recipes = [(f"threshold {t}", f"ead(model={path}, threshold={t})") for t in THRESHOLDS]
    yield from rows(recipes, folder)
    for window, hold in ((1, 1), (5, 1), (1, 5), (5, 5), (10, 10)):
        recipe = f"ead(model={path}, window={window}, hold={hold})"
        (row,) = rows([("", recipe)], folder, alone=False)
        yield "by_window", {"window": window, "hold": hold,
                            "switches a text": row["switches a text"]}  # fmt: skip
