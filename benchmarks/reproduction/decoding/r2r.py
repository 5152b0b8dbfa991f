"""R2R: a router trained on two real models, and what a text costs and is worth as it is heeded."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from benchmarks.reproduction.decoding.two_models import COLUMNS, Size, ids, models, rows
from benchmarks.reproduction.harness import Found, Note, check

from lengthwise.methods.calibration import fingerprint
from lengthwise.methods.decoding.divergence import Places, answers, places
from lengthwise.methods.decoding.token_router import area, save, train

WHO = ("a girl named Mia", "an old farmer", "two brothers", "a small bird", "a king", "my sister")
DID = ("went to the market", "lost a shoe", "heard a noise in the night", "wanted to bake a cake",
       "found a map", "was very tired")  # fmt: skip
# 0 is the large model alone, 1 the small one.
THRESHOLDS = (0, 0.3, 0.5, 0.7, 1)
# Texts whose places say when to stop and where the threshold is; as many more judge the router.
HELD_OUT = 3


@check(COLUMNS)
def r2r(
    folder: str = "", texts: int = 36, written: int = 64, horizon: int = 12, prompts: int = 8,
    new: int = 48,
) -> Iterator[Found]:  # fmt: skip
    """Labels, the router's area under the curve on texts of neither kind, and thresholds."""
    small, large, path = models(folder)
    openings = [f"One day {who} {did}." for who, did in itertools.product(WHO, DID)]
    # Every kind of beginning among those held out, too.
    openings = openings[::5] + [each for n, each in enumerate(openings) if n % 5]
    begun = [ids(small, opening) for opening in openings[:texts]]
    said = answers(large.adapted, begun, written)
    found = [
        places(small.adapted, large.adapted, prompt, own, horizon=horizon)
        for prompt, own in zip(begun, said, strict=True)
    ]
    test, held_out, seen = (
        Places.joined(part)
        for part in (found[:HELD_OUT], found[HELD_OUT : 2 * HELD_OUT], found[2 * HELD_OUT :])
    )
    router = train(seen, held_out, small.adapted.embed)
    router.small, router.large = fingerprint(small.adapted), fingerprint(large.adapted)
    probs = router.probs(test.states, small.adapted.embed(test.tokens), test.logits)
    spread = test.logits.softmax(-1)
    entropy = torch.special.entr(spread).sum(-1)
    yield Note({
        "places": len(seen), "places that differ": float(seen.differs.float().mean()),
        "places that diverge": float(seen.diverges.float().mean()),
        "area of the router": area(probs, test.diverges),
        "area of the entropy": area(entropy, test.diverges),
        "threshold": router.threshold,
        "recall on texts not seen":
            float((probs >= router.threshold)[test.diverges].float().mean()),
        "weights of the router": router.size,
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as where:
        file = Path(where) / "router.safetensors"
        save(router, file)
        named = f'r2r(model={path}, router="{file}"'
        yield from rows(
            [("the router's threshold", f"{named})")]
            + [(f"threshold {t}", f"{named}, threshold={t})") for t in THRESHOLDS],
            folder,
            Size(prompts, new),
        )
