"""Small views of a long document's cache as the drafter, chains of four."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.drafting.asking import adapted, compare
from benchmarks.reproduction.drafting.prose import ANSWER, ASK, HEAD, NEXT, PASSAGE, QUESTION
from benchmarks.reproduction.harness import Found, check, encode, load, reference

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.methods.drafting.window import Window

VIEWS = {
    "`window` (4 first tokens, last 512)": Window(width=1),
    "`window(window=128)`": Window(window=128, width=1),
    '`window(recipe="snapkv(budget=512)")`': Window(recipe="snapkv(budget=512)", width=1),
    "`window(retrieved=512)`: TriForce's chunks": Window(retrieved=512, width=1),
    '`window(recipe="kivi(bits=2)")`': Window(recipe="kivi(bits=2)", width=1),
}


@check({"guesses made from": "", "quote": ".2f", "copy": ".2f", "free": ".2f"})
def window(context: int = 4096) -> Iterator[Found]:
    """Tokens a round (guesses, of those right) behind a long document."""
    model, own = load("float32"), adapted()
    before, after = encode(model, HEAD), encode(model, f"\n\n{PASSAGE}")
    rest = reference(model)[: context - len(before) - len(after)]
    base = Context(own, Plan(), remember=64)
    # The passage stands first and the reference behind it, out of every window's sight.
    loop.prefill(base, before + after + rest)
    suffixes = {
        "quote": encode(model, f"\n\n{QUESTION}{NEXT}{ANSWER}"),
        "copy": encode(model, f"{NEXT}Understood.{ASK}Repeat this text exactly: {PASSAGE}{NEXT}"),
        "free": encode(model, f"{NEXT}Understood.{ASK}Tell me a story of the sea.{NEXT}"),
    }
    starters = {name: lambda v=view: v.start_drafter(own) for name, view in VIEWS.items()}
    for name, row in compare(base, suffixes, starters):  # type: ignore[arg-type]
        yield {"guesses made from": name, **row}
