"""LM-Infinite on a book, as if the model were trained to less, and with tokens re-admitted."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.planted import LAST, PLANTED, bench, mean

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.methods.positions.lm_infinite import LMInfinite

LENGTH, BEFORE = 16_384, 4096
PLACES = {f"{start:,}": ".3f" for start in range(0, LENGTH, LAST)}


@check(
    {"recipe": "", "loss of the last 2,048 tokens": ".3f", "KV bytes held": ""},
    by_position={"tokens from": "", **PLACES},
)
def book() -> Iterator[Found]:
    """The last 2,048 tokens of a book's first 16,384: LM-Infinite, stock attention over the 4,096
    tokens before them alone, and stock attention over everything. Every token counts."""
    chosen = bench()
    ids = chosen.book()[:LENGTH]
    last, held = "loss of the last 2,048 tokens", "KV bytes held"
    sequence, windowed = chosen.read(LMInfinite(sinks=10, window=2048), ids, every=1)
    sequence.end_prefill()
    recipe = "`lm_infinite(window=2048)`"
    yield {"recipe": recipe, last: mean(windowed, LENGTH - LAST), held: sequence.nbytes()}
    early = Sequence(chosen.model, sequence.plan)
    prefill(early, ids[:BEFORE])
    early.end_prefill()
    yield Note(bytes_after_4096=early.nbytes())
    control = chosen.read(None, ids[-LAST - BEFORE :], every=1)[1]
    yield {"recipe": "full, the 4,096 tokens before alone", last: mean(control, BEFORE)}
    everything = chosen.read(None, ids, every=1)[1]
    bytes_full = LENGTH * chosen.model.bytes_per_token
    yield {"recipe": "full, everything", last: mean(everything, LENGTH - LAST), held: bytes_full}
    for name, losses in ((recipe, windowed), ("full", everything)):
        found = {place: mean(losses, n * LAST, (n + 1) * LAST) for n, place in enumerate(PLACES)}
        yield "by_position", {"tokens from": name, **found}


@check({"recipe": "", "loss": ".3f"})
def trained_to_512() -> Iterator[Found]:
    """As if the model were trained to 512 tokens: with its first tokens and without."""
    chosen = bench()
    ids = chosen.book()[:4096]
    full = "full (all of it is within the trained length)"
    yield {"recipe": full, "loss": mean(chosen.read(None, ids, every=1)[1], 2048)}
    for sinks in (4, 0):
        method = LMInfinite(sinks=sinks, window=512, cap=512)
        losses = chosen.read(method, ids, every=1)[1]
        yield {"recipe": f"`{method}`", "loss": mean(losses, 2048)}


@check({"recipe": "", **PLANTED})
def top_k() -> Iterator[Found]:
    """What was planted in 4,096 tokens, asked through a window of 1,024 and re-admitted tokens."""
    chosen = bench()
    yield {"recipe": "full", **chosen.look_back(None, 4096)}
    plain = LMInfinite(window=1024)
    settings = [plain, *(LMInfinite(window=1024, top_k=k) for k in (5, 32))]
    settings += [LMInfinite(window=1024, top_k=5, top_k_at=at) for at in (256, 1024, 4096)]
    for method in settings:
        yield {"recipe": f"`{method}`", **chosen.look_back(method, 4096)}
    yield Note(unplanted=chosen.unplanted(plain, 4096))
