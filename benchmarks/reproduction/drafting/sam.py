"""SAM-Decoding on five prompts, and the size of an automaton."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice

from benchmarks.reproduction.drafting.five_prompts import COLUMNS, bench, library_files
from benchmarks.reproduction.harness import Found, check, load

from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.methods.drafting.sam import SAM, SAMDrafter
from lengthwise.retrieval.suffix_automaton import SuffixAutomaton

READ = 100_000
BESIDE = SAM(threshold=5, alpha=None)


@check({"setting": "", **COLUMNS})
def sam() -> Iterator[Found]:
    """Alone, beside recycling in both settings of the authors, and over the model's own answers."""
    chosen = bench()
    for options in (SAM(), SAM(alpha=None), SAM(threshold=2), BESIDE):
        yield {"setting": f"`{options}`", **chosen.row(partial(SAMDrafter, options))}
    yield {"setting": "`lookup`", **chosen.row(partial(LookupDrafter, Lookup()))}
    yield {"setting": "`recycling`", **chosen.row(chosen.recycling())}
    for options in (SAM(), BESIDE):
        row = chosen.row(partial(SAMDrafter, options), chosen.recycling())
        yield {"setting": f"`{options} + recycling`", **row}
    store = chosen.store(chosen.answers())
    for options, name in ((SAM(), "..."), (SAM(bias=0), "..., bias=0")):
        row = chosen.row(partial(SAMDrafter, options, store))
        yield {"setting": f"`sam(datastore={name})`, own answers", **row}


@check({"tokens": "", "states": "", "transitions": "", "seconds": ".2f"})
def automaton() -> Iterator[Found]:
    """States, transitions and processor time of reading 100,000 tokens of Python's library."""
    text = list(islice(chain.from_iterable(library_files(load("float32").tokenizer)), READ))
    found = SuffixAutomaton()
    begin = time.thread_time()
    found.extend(text)
    seconds = time.thread_time() - begin
    yield {
        "tokens": len(text), "states": found.states, "transitions": found.transitions,
        "seconds": round(seconds, 2),
    }  # fmt: skip
