"""StreamingLLM: a stream through 512 tokens of cache, and what lies outside the window."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.planted import ASKED, bench, mean

from lengthwise.methods.retention.streaming import Streaming

KEPT = 512
STRETCH, READ = 4000, 20_000
PLACES = {f"{start:,}": ".3f" for start in range(0, READ, STRETCH)}
TEXT = 4096


@check({"cache": "", **PLACES})
def stretches() -> Iterator[Found]:
    """20,000 tokens of the book through 512 tokens of cache, by stretches of 4,000."""
    chosen = bench()
    for sinks in (4, 0):
        window = KEPT - sinks
        losses = chosen.read(Streaming(sinks=sinks, window=window), chosen.book()[:READ])[1]
        found = {
            place: mean(losses, n * STRETCH, (n + 1) * STRETCH) for n, place in enumerate(PLACES)
        }
        yield {"cache": f"{sinks or 'no'} sinks, window {window}", **found}


@check({"`streaming(window=508)`, 4,096 tokens": "", **dict.fromkeys(ASKED, ".3f")})
def planted() -> Iterator[Found]:
    """What was planted in 4,096 tokens, against the same questions to a text without it."""
    chosen, method = bench(), Streaming(sinks=4, window=KEPT - 4)
    found = chosen.look_back(method, TEXT)
    yield {"`streaming(window=508)`, 4,096 tokens": "planted",
           **{name: found[name] for name in ASKED}}  # fmt: skip
    yield {"`streaming(window=508)`, 4,096 tokens": "not planted",
           **chosen.unplanted(method, TEXT)}  # fmt: skip
