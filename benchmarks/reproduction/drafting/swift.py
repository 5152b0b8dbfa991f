"""SWIFT: tokens a round while layers are searched for, and what was found."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.drafting.asking import KINDS, adapted, of_kinds
from benchmarks.reproduction.harness import Found, check

from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.methods.drafting.swift import Swift, SwiftDrafter

SHARES = {0.1: "`skip=0.1` (2 of 30)", 0.2: "`skip=0.2` (5)",
          0.45: "`skip=0.45`, the default (12)"}  # fmt: skip
# New tokens while layers are searched for.
SEARCHED = 96


@check({"share left out": "", **dict.fromkeys(KINDS, "")})
def swift() -> Iterator[Found]:
    """Chains of four: tokens a round (guesses, of those right); trials, matchness, layers out."""
    model = adapted()
    made: dict[str, list[SwiftDrafter]] = {name: [] for name in SHARES.values()}

    def starter(name: str, skip: float) -> Drafter:
        # One that plain decoding needs is made anew for every prompt.
        made[name].append(Swift(skip=skip, width=1, depth=4, window=16).start_drafter(model))
        return made[name][-1]

    starters = {name: lambda n=name, s=skip: starter(n, s) for skip, name in SHARES.items()}
    for name, row in of_kinds(starters, SEARCHED):  # type: ignore[arg-type]
        searches = [drafter.search for drafter in made[name]]
        found = {}
        for (kind, cell), search in zip(row.items(), searches, strict=True):
            rounds = f"{cell['tokens a round']:.2f} ({cell['guesses']}, {cell['right']})"
            out = ",".join(map(str, search.left_out))
            found[kind] = f'{rounds}; {search.tried}, {search.score:.2f}, "{out}"'
        yield {"share left out": name, **found}
