"""TidalDecode by who selects again, what is corrected, and how alike layers are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

from benchmarks.reproduction.harness import Found, Note, check, load, reference
from benchmarks.reproduction.selection.copying import (
    COPY,
    LENGTH,
    copy_and_text,
    masses,
    mean,
    recent,
)

from lengthwise.engine.plan import FULL, Plan
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.selection.recall import best_layer, layer_recall, measure_recall
from lengthwise.methods.selection.tidal import Tidal
from lengthwise.recipes import resolve

MASS, SHARE = "MASS", "recall"
# Distances of layers, and tokens of the texts on which the layers are compared.
# The layer of this model's strongest induction heads (see razor) selects for the one behind it.
AT_COPIES = Tidal(reselect=17, votes="all")
DISTANCES = (1, 2, 4, 8, 16)
READ = 2048


@cache
def searched() -> int:
    """The re-selection layer of the embedded model."""
    found = best_layer(layer_recall(load().adapted), Tidal.dense)
    assert found is not None
    return found


@check({"what": "", COPY: ".3f"})
def tidal(length: int = LENGTH, lists: int = 1) -> Iterator[Found]:
    """COPY by who selects again, for each head or all, beside a window."""
    best = searched()
    yield Note({"reselect": best})
    plans: dict[str, Plan | Method] = {
        "full attention": FULL,
        "`tidal`": Tidal(),
        "`tidal(reselect=0)`: one selection layer": Tidal(reselect=0),
        "`tidal(votes=all)`": Tidal(votes="all"),
        "`tidal(budget=1024)`": Tidal(budget=1024),
        **{f"`{each}`": each for each in (AT_COPIES, replace(AT_COPIES, budget=Budget(1024)))},
        "`tidal(correct=32)`": Tidal(correct=32),
        "only the most recent 320 tokens": recent(320),
    }
    model = load().adapted
    for name, plan in plans.items():
        whole = resolve([plan], model) if isinstance(plan, Method) else plan
        copied, _ = copy_and_text(whole, length, lists=lists)
        yield {"what": name, COPY: copied}


@check({"selects again": "", MASS: ".3f"})
def mass(length: int = LENGTH) -> Iterator[Found]:
    """MASS of what is read, mean over the layers that read less, by the re-selection layer."""
    base = Tidal()
    for layer in sorted({0, 5, 9, 13, 17, searched()}):
        found = masses(replace(base, reselect=layer), length)["mass"]
        name = "no layer" if not layer else f"layer {layer}"
        yield {"selects again": name, MASS: mean(found)}


@check({"text": "", **{f"{d} apart": ".3f" for d in DISTANCES}, "best layer": ""})
def layers() -> Iterator[Found]:
    """How much of a layer's top 256 another layer has, by distance, and the best re-selection
    layer: on four texts, and on the one of `lengthwise calibrate tidal`."""
    loaded = load()
    ids = reference(loaded)
    texts: dict[str, dict[str, Any]] = {
        f"text {n + 1}": measure_recall(loaded.adapted, ids[n * 3 * READ :][:READ])
        for n in range(4)
    }
    texts["calibration"] = layer_recall(loaded.adapted)
    for name, found in texts.items():
        row: dict[str, Any] = {"text": name}
        for distance in DISTANCES:
            recall = found["recall"]
            near = [recall[at][at + distance] for at in range(len(recall) - distance)]
            row[f"{distance} apart"] = mean(near)
        best = best_layer(found, Tidal.dense)
        assert best is not None and all(a < b for a, b in pairwise(found["layers"]))
        yield {**row, "best layer": str(best)}
