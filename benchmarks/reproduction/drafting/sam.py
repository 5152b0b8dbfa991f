"""SAM-Decoding and Lookahead on the real 135M model: rounds are counted, not timed.

    python -m benchmarks.checks.drafting_free sam
    python -m benchmarks.checks.drafting_free lookahead
    python -m benchmarks.checks.drafting_free automaton

`sam` and `lookahead` print one JSON line a setting: tokens a round on the five prompts of
`drafting_retrieval`, their mean, guesses verified a round, and whether every text is that of plain
decoding; greedy, float32, up to 64 new tokens, everything verified that is guessed. `automaton`
prints states, transitions and processor time of reading 100,000 tokens of Python's library.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice

from benchmarks.reproduction.drafting.five_prompts import OTHERS, Bench, Found, Starter, library_files

import lengthwise
from lengthwise.methods.drafting.automaton import Automaton
from lengthwise.methods.drafting.corpus import Datastore, fingerprint
from lengthwise.methods.drafting.lookahead import Lookahead, LookaheadDrafter
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.methods.drafting.recycling import Matrix, Recycling, RecyclingDrafter
from lengthwise.methods.drafting.sam import SAM, SAMDrafter

NEW = 64
READ = 100_000
BESIDE = SAM(threshold=5, alpha=None)


def _recycling(bench: Bench) -> Starter:
    table = Matrix(bench.model.adapted.vocab_size)
    return lambda: RecyclingDrafter(Recycling(), table)


def sam() -> Iterator[Found]:
    """Alone, beside recycling in both settings of the authors, and over the model's own answers."""
    bench = Bench()
    for options in (SAM(), SAM(alpha=None), SAM(threshold=2), BESIDE):
        yield {"setting": str(options), **bench.row(partial(SAMDrafter, options))}
    yield {"setting": "lookup", **bench.row(partial(LookupDrafter, Lookup()))}
    yield {"setting": "recycling", **bench.row(_recycling(bench))}
    for options in (SAM(), BESIDE):
        row = bench.row(partial(SAMDrafter, options), _recycling(bench))
        yield {"setting": f"{options} + recycling", **row}
    tokenizer = bench.model.tokenizer
    assert tokenizer is not None
    prompts = [bench.encode(prompt) for prompt in OTHERS]
    written = bench.model.generate_batch(prompts, max_new_tokens=2 * NEW)
    answers = [answer.token_ids for answer in written]
    store = Datastore.build(answers, bench.model.adapted.vocab_size, fingerprint(tokenizer))
    for bias in (5, 0):
        row = bench.row(partial(SAMDrafter, SAM(bias=bias), store))
        yield {"setting": f"own answers, bias {bias}", "tokens": len(store), **row}


def lookahead() -> Iterator[Found]:
    """The README's N, W, G and the paper's, with the pool filled from the text too, and parts."""
    bench = Bench()
    settings = (
        Lookahead(), Lookahead(window=15, guesses=15), Lookahead(prompt=True),
        Lookahead(window=15, guesses=15, prompt=True), Lookahead(window=0, prompt=True),
        Lookahead(guesses=0),
    )  # fmt: skip
    for options in settings:
        yield {"setting": str(options), **bench.row(partial(LookaheadDrafter, options))}
    beside = bench.row(partial(LookaheadDrafter, Lookahead()), _recycling(bench))
    yield {"setting": "lookahead + recycling", **beside}


def automaton() -> Iterator[Found]:
    tokenizer = lengthwise.load(dtype="float32").tokenizer
    text = list(islice(chain.from_iterable(library_files(tokenizer)), READ))
    found = Automaton()
    begin = time.thread_time()
    found.extend(text)
    seconds = time.thread_time() - begin
    yield {
        "tokens": len(text), "states": found.states, "transitions": found.transitions,
        "seconds": round(seconds, 2),
    }  # fmt: skip


CHECKS: dict[str, Callable[[], Iterator[Found]]] = {
    "sam": sam,
    "lookahead": lookahead,
    "automaton": automaton,
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"name one of {', '.join(CHECKS)}")
    for row in CHECKS[sys.argv[1]]():
        print(json.dumps({"check": sys.argv[1], **row}), flush=True)
