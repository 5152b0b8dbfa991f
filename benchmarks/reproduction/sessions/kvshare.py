"""KVShare: a passage of the Python reference was read behind other text, and is found again.

512 tokens are stored as they were read behind 256 tokens from elsewhere. The new prompt has them
where they belong: behind the 256 tokens that stand before them in the reference, and before the 64
that follow. The laws of the next 64 tokens are compared with those of a session that read all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

from benchmarks.reproduction.harness import Found, Note, check, load, reference
from benchmarks.reproduction.sessions.following import (
    Distance,
    distance,
    first_layer_keys,
    following,
)
from torch import Tensor

import lengthwise
from lengthwise.api.model import Model
from lengthwise.engine.blending import CHOICES

BEFORE, PASSAGE, BEHIND, FOLLOWING = 256, 512, 64, 64
PLACES = (6_000, 17_000, 31_000, 52_000, 71_000, 93_000)
SHARES = ("0%", "10%", "15%", "30%", "100%")
NAMES = {
    "attended": "`attended`: values, times attention (KVShare)",
    "deviating": "`deviating`: values (CacheBlend's code)",
    "gradual": "`gradual`: values, layer by layer (CacheBlend's paper)",
    "random": "`random`",
}


@dataclass(frozen=True)
class Case:
    """A prompt that holds a stored passage, what follows, and its laws after full reading."""

    pieces: lengthwise.Pieces
    prompt: list[int]
    after: list[int]
    whole: Tensor
    keys: Tensor

    def read(self, **given: object) -> Distance:
        session = self.pieces.read(self.prompt, **given)  # type: ignore[arg-type]
        return distance(following(session, self.after, 16), self.whole, self.after)


def cases(model: Model, places: tuple[int, ...]) -> list[Case]:
    ids, found = reference(model), []
    for place in places:
        passage = ids[place : place + PASSAGE]
        prompt = ids[place - BEFORE : place + PASSAGE + BEHIND]
        after = ids[place + PASSAGE + BEHIND :][:FOLLOWING]
        pieces = lengthwise.Pieces(model, least=64)
        pieces.add([*ids[place + 1_500 : place + 1_500 + BEFORE], *passage])
        session = model.read(prompt)
        whole = following(session, after, 16)
        found.append(Case(pieces, prompt, after, whole, first_layer_keys(session)))
    return found


@check({"chosen by": "", **{f"KL at {share}": ".1e" for share in SHARES}},
       first={"chosen by": "", **{f"first token at {share}": ".1e" for share in SHARES}},
       loss={"chosen by": "", **{f"loss at {share}": ".4f" for share in SHARES}})  # fmt: skip
def kvshare(
    dtype: str = "float32", places: tuple[int, ...] = PLACES, choices: tuple[str, ...] = CHOICES,
) -> Iterator[Found]:  # fmt: skip
    """KL to full reading over the 64 tokens that follow, by the share that is computed again and by
    how those tokens are chosen."""
    model = load(dtype)
    chosen = cases(model, places)
    edges = {share: [case.read(recompute=share) for case in chosen] for share in ("0%", "100%")}
    for choose in choices:
        rows = dict(edges)
        for share in SHARES[1:-1]:
            rows[share] = [case.read(recompute=share, choose=choose) for case in chosen]
        name = NAMES[choose]
        yield {"chosen by": name} | {f"KL at {s}": mean(d.mean for d in rows[s]) for s in SHARES}
        yield (
            "first",
            {"chosen by": name}
            | {f"first token at {s}": mean(d.first for d in rows[s]) for s in SHARES},
        )
        yield (
            "loss",
            {"chosen by": name} | {f"loss at {s}": mean(d.loss for d in rows[s]) for s in SHARES},
        )
    worst = 0.0
    for case in chosen:
        keys = first_layer_keys(case.pieces.read(case.prompt, recompute="0%"))
        here = slice(BEFORE, BEFORE + PASSAGE)
        gap = (keys - case.keys)[:, here].norm() / case.keys[:, here].norm()
        worst = max(worst, float(gap))
    yield Note(prompts=len(chosen), keys_of_the_first_layer=worst)


@check({"computed again while 64 tokens follow": "", "KL, 0% before": ".1e", "15% before": ".1e"})
def stage_two(
    dtype: str = "float32", places: tuple[int, ...] = PLACES,
    refresh: tuple[int, ...] = (0, 4, 16, 64), every: int = 16,
) -> Iterator[Found]:  # fmt: skip
    """KL over the 64 tokens that follow where stale tokens are computed again meanwhile."""
    model = load(dtype)
    chosen = cases(model, places)
    for tokens in refresh:
        row: dict[str, object] = {
            "computed again while 64 tokens follow": f"{tokens} every {every}" if tokens else "none"
        }
        for share, column in (("0%", "KL, 0% before"), ("15%", "15% before")):
            found = [case.read(recompute=share, refresh=tokens, every=every) for case in chosen]
            row[column] = mean(each.mean for each in found)
        yield row
