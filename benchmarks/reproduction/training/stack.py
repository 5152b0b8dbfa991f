"""G_stack: two layers that become eight, against eight from the first step and two to the last.

For as many FLOPs, on tiny models trained from scratch. Losses are nats a token on held-out files.
One thread; about 6 minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reproduction import tiny
from benchmarks.reproduction.harness import Found, Note, check

from lengthwise.training.log import NAME, read_log

ROW = 256
DEEP, FACTOR, GROWN_AT, DEEP_STEPS = 8, 4, 80, 400
EVERY = 25
"""Steps between two evaluations of `stack`."""
SHARES = (0.02, 0.06, 0.11, 0.3, 0.55, 0.8, 1.0)
"""Of the FLOPs of the whole model, where its curves are read."""
REACHED = "FLOPs until the whole one's loss"


@check({"model": "", "steps": "", "loss": ".2f", REACHED: ".2f"},
       curve={"": "", **{str(share): ".2f" for share in SHARES}})  # fmt: skip
def stack(folder: Path, seed: int = 0) -> Iterator[Found]:
    """Eight layers from the first step, grown with a schedule anew or kept, and two layers."""
    train_on, validation = tiny.library(folder)
    rows = tiny.data(folder, train_on, "concat", length=ROW)
    held_out = tiny.data(folder, validation, "concat", length=ROW)
    data = {"train": rows, "validation": held_out}
    evaluation = {"every": EVERY, "documents": 128, "max_length": ROW}
    shallow = tiny.MODEL | {"num_hidden_layers": DEEP // FACTOR}
    deep = tiny.MODEL | {"num_hidden_layers": DEEP}
    common: dict[str, Any] = {"data": data, "evaluation": evaluation, "seed": seed,
                              "tokens_per_step": 2 * ROW,
                              "log": {"every": 1, "plot_every": 0}}  # fmt: skip
    scratch = curve(tiny.run(folder, f"stack-scratch-{seed}", rows, model=deep, steps=DEEP_STEPS,
                             **common))  # fmt: skip
    whole, target = scratch[-1]
    yield Note(corpus=tiny.fingerprint(train_on), flops=whole)
    yield {"model": "eight layers, whole", "steps": DEEP_STEPS, "loss": target, REACHED: 1}
    # As many steps more as the shallow ones leave of the FLOPs.
    small, large = (6 * sum(sizes(layers)) for layers in (DEEP // FACTOR, DEEP))
    steps = DEEP_STEPS + round(GROWN_AT * (1 - small / large))
    for schedule in ("kept", "fresh"):
        growth = {"at_step": GROWN_AT, "factor": FACTOR, "schedule": schedule}
        place = tiny.run(folder, f"stack-{schedule}-{seed}", rows, model=shallow, steps=steps,
                         growth=growth, **common)  # fmt: skip
        found = curve(place)
        reached = [flops for flops, each in found if each <= target]
        share = round(reached[0] / whole, 3) if reached else None
        yield {"model": f"two to eight, `{schedule}`", "steps": steps, "loss": found[-1][1],
               REACHED: share}  # fmt: skip
        near = {str(s): min(found, key=lambda each: abs(each[0] / whole - s))[1] for s in SHARES}
        yield "curve", {"": f"grown, `{schedule}`", **near}
    steps = round(whole / (found[0][0] / EVERY))
    place = tiny.run(folder, f"stack-shallow-{seed}", rows, model=shallow, steps=steps, **common)
    yield {"model": "two layers, shallow", "steps": steps, "loss": curve(place)[-1][1]}


def sizes(layers: int) -> tuple[int, int]:
    """Weights that multiply: of the layers, and of the head; attention's own work stands beside."""
    width, inner = tiny.MODEL["hidden_size"], tiny.MODEL["intermediate_size"]
    assert isinstance(width, int) and isinstance(inner, int)
    return layers * (4 * width**2 + 3 * width * inner), tiny.VOCABULARY * width


def curve(place: Path) -> list[tuple[float, float]]:
    """(FLOPs so far, validation loss) of every evaluation of a run."""
    found, flops = [], 0.0
    for record in read_log(place / NAME):
        if record["kind"] == "train":
            flops += record["parameter_flops"] + record["attention_flops"]
        elif record["kind"] == "evaluation":
            found.append((flops, round(record["L"], 4)))
    return found
