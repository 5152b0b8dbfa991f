"""Candidates behind one prompt, ranked in one pass (Uni-Encoder): equal figures, and the seconds.

Prompts are pieces of the Python language reference. One candidate is what follows there; the others
follow elsewhere in the same document.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks.reproduction.harness import Found, check, load, reference

from lengthwise.api.model import Model

Ids = list[int]
RECIPES = ("full", "snapkv(budget=25%)", "kivi", "streaming(window=512)", "h2o(budget=512)")


def _piece(model: Model, prompt: int, candidates: int, tokens: int, number: int) -> list[Ids]:
    """A prompt, what follows it, and what follows elsewhere."""
    document, draw = reference(model), random.Random(number)
    starts = draw.sample(range(prompt, len(document) - tokens), candidates)
    found = [document[at : at + tokens] for at in starts]
    return [document[starts[0] - prompt : starts[0]], *found]


def _alone(model: Model, prompt: Ids, candidate: Ids, recipe: str, block: int) -> list[float]:
    """Log-probabilities of a candidate whose prompt is read for it."""
    scores = model.score([*prompt, *candidate], recipe, prompt=len(prompt), block=block)
    return [float(each) for each in scores]


@check({
    "recipe": "", "mean": ".1e", "largest": ".1e", "two ways alone, largest": ".1e", "first": "",
})  # fmt: skip
def equality(
    prompt: int = 512, candidates: int = 16, tokens: int = 20, pieces: int = 2,
    recipes: tuple[str, ...] = RECIPES,
) -> Iterator[Found]:  # fmt: skip
    """Differences of a token's log-probability from reading each candidate by itself a token a
    forward, float32; beside it those of reading it by itself in blocks, which is rounding. And how
    often what really follows is ranked first."""
    model = load("float32")
    for recipe in recipes:
        gaps, rounding, first = list[float](), list[float](), 0
        for number in range(pieces):
            before, *given = _piece(model, prompt, candidates, tokens, number)
            found = model.rank(before, given, recipe)
            first += found[0].index == 0
            for each in found:
                alone = _alone(model, before, given[each.index], recipe, 1)
                blocks = _alone(model, before, given[each.index], recipe, 4)
                gaps += [abs(a - b) for a, b in zip(each.logprobs, alone, strict=True)]
                rounding += [abs(a - b) for a, b in zip(blocks, alone, strict=True)]
        yield {
            "recipe": recipe, "mean": statistics.fmean(gaps), "largest": max(gaps),
            "two ways alone, largest": max(rounding), "first": f"{first} of {pieces}",
        }  # fmt: skip


@check({"way": "", "seconds": ".2f", "times as fast": ".1f"})
def rank(
    prompt: int = 2048, candidates: int = 16, tokens: int = 20, runs: int = 3,
    dtype: str = "float32",
) -> Iterator[Found]:  # fmt: skip
    """Seconds for all candidates: the prompt read for each, and ranked."""
    model = load(dtype)
    before, *given = _piece(model, prompt, candidates, tokens, 0)

    ways: dict[str, Callable[[], object]] = {
        "one by one, the prompt read for each": lambda: [
            _alone(model, before, each, "full", len(each)) for each in given
        ],
        "ranked: read once, one forward": lambda: model.rank(before, given),
    }
    base = 0.0
    for name, way in ways.items():
        seconds = []
        for _ in range(runs):
            begin = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - begin)
        took = statistics.median(seconds)
        base = base or took
        yield {"way": name, "seconds": took, "times as fast": base / took}
