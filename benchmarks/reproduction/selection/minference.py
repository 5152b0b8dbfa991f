"""MInference: what searched patterns hold of a model's attention, and what reading by them costs.

`python -m benchmarks.run minference` times a prompt of 16,384 tokens against full attention.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, load, reference
from benchmarks.reproduction.selection.copying import COLUMNS, LENGTH, rows, setting

from lengthwise.methods.calibration import find, save
from lengthwise.methods.selection.minference import MInference
from lengthwise.methods.selection.pattern_search import (
    KIND,
    SPACE,
    SPACES,
    Scores,
    best_of,
    search_once,
    search_patterns,
)
from lengthwise.methods.selection.patterns import Pattern
from lengthwise.recipes import resolve

SETTINGS = {
    "full attention": "full",
    "`minference`": "minference",
    "`minference(slack=0.02)`": "minference(slack=0.02)",
    "`minference(space=wide, slack=0.02, block=128)`":
        "minference(space=wide, slack=0.02, block=128)",
    "`minference(space=wide, slack=0.05, block=128)`":
        "minference(space=wide, slack=0.05, block=128)",
    "**`minference(space=wide, slack=0.05, block=256)`** (best known)":
        "minference(space=wide, slack=0.05, block=256)",
    "an A-shape in all heads, 100 and 800":
        "minference(pattern=a_shape, columns=100, distances=800)",
}  # fmt: skip
SLACKS = (0.0, 0.02, 0.05, 0.1)
BEST = MInference(space="wide", slack=0.05, block=256)


@check(COLUMNS)
def minference(length: int = LENGTH) -> Iterator[Found]:
    """COPY and TEXT after a prompt that was read by patterns; decoding reads everything."""
    model, _ = setting(length)
    yield from rows({name: resolve(recipe, model) for name, recipe in SETTINGS.items()}, length)


def _named(pattern: Pattern) -> str:
    if pattern.kind == "block_sparse":
        return "an eighth of the blocks"
    kind = "A-shape" if pattern.kind == "a_shape" else "vertical-slash"
    return f"{kind} {pattern.columns:,}, {pattern.distances:,}"


@check({"pattern": "", "mass": ".3f", "worst head": ".3f", "keys read": ".3f",
        "heads, by default": "d", "heads, best known": "d"},
       slack={"space": "", "slack": "", "mass": ".3f", "keys read": ".3f",
              "mass on a text": ".3f", "keys read of it": ".3f"})  # fmt: skip
def search() -> Iterator[Found]:
    """What every pattern of the space holds and reads, and what the choice on the paper's sample
    holds of an ordinary text."""
    model = load().adapted
    search_once(model)
    found = find(KIND, model)
    if found is None:
        found = search_patterns(model)
        save(KIND, model, found)
    ids = reference(load())[20_000 : 20_000 + found["length"]]
    text = search_patterns(model, ids=ids)
    here, there = (_heads(each["layers"]) for each in (found, text))
    default, best = _chosen(here, MInference()), _chosen(here, BEST)
    for number, pattern in enumerate(SPACE):
        mass = [head[0][number] for head in here]
        yield {
            "pattern": _named(pattern), "mass": _mean(mass), "worst head": min(mass),
            "keys read": _mean([head[1][number] for head in here]),
            "heads, by default": default.count(number), "heads, best known": best.count(number),
        }  # fmt: skip
    for space in SPACES:
        for slack in SLACKS:
            chosen = _chosen(here, MInference(space=space, slack=slack))
            held = [[_mean([head[which][i] for head, i in zip(heads, chosen, strict=True)])
                     for which in (0, 1)] for heads in (here, there)]  # fmt: skip
            yield "slack", {
                "space": space, "slack": f"{slack:g}", "mass": held[0][0],
                "keys read": held[0][1], "mass on a text": held[1][0],
                "keys read of it": held[1][1],
            }  # fmt: skip


def _chosen(heads: list[tuple[list[float], list[float]]], method: MInference) -> list[int]:
    """Which pattern of SPACE every head takes."""
    count = SPACES[method.space]
    return [best_of(mass[:count], read[:count], method.slack) for mass, read in heads]


def _heads(layers: list[Scores]) -> list[tuple[list[float], list[float]]]:
    """Of every query head what each pattern holds, and what it reads."""
    return [pair for each in layers for pair in zip(each["mass"], each["read"], strict=True)]


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 3)
