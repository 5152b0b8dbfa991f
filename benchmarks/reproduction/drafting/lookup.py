"""The small checks of drafting on the real 135M model: forwards are counted, not timed.

    python -m benchmarks.checks.drafting lookup [DTYPE]
    python -m benchmarks.checks.drafting search

`lookup` prints one JSON line: tokens a round and forwards of three kinds of work behind 2,000
tokens (the Python reference, then a passage of prose), greedy, in float32 by default. `copy`: the
passage is given again, to be repeated. `quote`: a question answered by quoting it. `free`: a story
that has nothing to do with either. `every` verifies all that lookup guesses, `goodput` what its
policy chooses with the times of steps it is told (MILLISECONDS; none is measured here). `search`
prints processor time of one search at 262,144 tokens of context, one thread.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np

from lengthwise.engine import loop
from lengthwise.engine.cost import Load
from lengthwise.engine.plan import Plan
from lengthwise.engine.policy import Fixed, Goodput, LengthPolicy
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence as Context
from lengthwise.engine.tree import Tree
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained
from lengthwise.tasks.documents import read_document

CONTEXT = 2000
NEW = 96
SEARCHED = 262_144
HEAD = "<|im_start|>user\n"
NEXT = "<|im_end|>\n<|im_start|>assistant\n"
ASK = "<|im_end|>\n<|im_start|>user\n"
QUESTION = "What did the lighthouse keeper do? Quote the text."
ANSWER = 'The text says: "The lighthouse'
PASSAGE = (
    "The lighthouse keeper wrote every evening in a thick green book. He noted the wind, the "
    "height of the waves, and the names of the ships that passed. On the third of March he "
    "counted eleven ships before noon, more than in the whole of February. In the afternoon a fog "
    "came up from the south, and he rang the bell until his arms were tired. Nobody answered. At "
    "midnight the fog lifted, and a small boat with a red sail lay on the stones below the tower."
)
# Milliseconds of a step by its tokens, from a quiet 2-core machine in bfloat16.
MILLISECONDS = {1: 21.1, 2: 21.3, 4: 21.9, 8: 23.5, 16: 27.7, 32: 36.0, 64: 51.3}

Ids = list[int]


def lookup(dtype: str = "float32") -> dict[str, Any]:
    """Rounds and forwards by kind of work; `equal` says that the text is that of plain decoding."""
    model, tokenizer, _ = load_pretrained(dtype=dtype)
    adapted = adapt(model)

    def encode(text: str) -> Ids:
        return tokenizer.encode(text, add_special_tokens=False)

    before, after = encode(HEAD), encode(f"\n\n{PASSAGE}")
    reference = encode(read_document().text)[: CONTEXT - len(before) - len(after)]
    document = before + reference + after
    suffixes = {
        "copy": encode(f"{NEXT}Understood.{ASK}Repeat this text exactly: {PASSAGE}{NEXT}"),
        "quote": encode(f"\n\n{QUESTION}{NEXT}{ANSWER}"),
        "free": encode(f"{NEXT}Understood.{ASK}Tell me a story of the sea.{NEXT}"),
    }
    base = Context(adapted, Plan())
    loop.prefill(base, document)
    found: dict[str, Any] = {"check": "lookup", "dtype": dtype, "context": CONTEXT, "new": NEW}
    for name, suffix in suffixes.items():
        plain = _generate(base, suffix, None)
        row: dict[str, Any] = {}
        for label, policy in {"every": Fixed(), "goodput": _goodput(adapted, base)}.items():
            request = _generate(base, suffix, policy)
            ledger = request.ledger
            row[label] = {
                "tokens_a_round": round(ledger.accepted_per_step, 2),
                "forwards": ledger.steps,
                "tokens": ledger.decoded,
                "guesses": ledger.drafted,
                "right": sum(ledger.accepted.values()),
                "equal": request.output == plain.output,
            }
        found[name] = row
    return found


def _generate(base: Context, suffix: Sequence[int], policy: LengthPolicy | None) -> Request:
    """Greedy tokens behind context and suffix; with lookup where there is a policy."""
    drafters = (lambda: LookupDrafter(Lookup()),) if policy is not None else ()
    sequence = base.fork(Plan(drafters=drafters))
    # No stop ids: every kind of work runs for the same number of tokens.
    request = loop.begin(sequence, Sampling(), NEW, ())
    loop.start(request, loop.prefill(sequence, suffix))
    for _ in loop.run(request, policy):
        pass
    return request


def _goodput(model: Adapted, base: Context) -> Goodput:
    policy = Goodput(clock=lambda: 0.0)
    for octave in (len(base).bit_length(), len(base).bit_length() + 1):
        for size, milliseconds in MILLISECONDS.items():
            for _ in range(5):
                policy.observe(Load("full", 1, octave), size - 1, milliseconds / 1000)
    return policy


def search() -> dict[str, Any]:
    """Microseconds of processor time of a proposal, by kind of text; `build` is the first one's."""
    _, tokenizer, _ = load_pretrained()
    ids = tokenizer.encode(read_document().text, add_special_tokens=False)
    generator = np.random.default_rng(0)
    texts: dict[str, Ids] = {
        "reference": list(islice(cycle(ids), SEARCHED)),
        "zipf": np.minimum(generator.zipf(1.2, SEARCHED), len(tokenizer) - 1).tolist(),
        "one token": [5] * SEARCHED,
    }
    found: dict[str, Any] = {"check": "search", "context": SEARCHED, "unit": "microseconds"}
    for name, text in texts.items():
        drafter = LookupDrafter(Lookup())
        build = _proposal(drafter, text)
        times = []
        for step in range(1000):
            # Nine tokens in ten continue an older place, so that matches of all lengths occur.
            text.append(text[1000 + step] if generator.random() < 0.9 else 77)
            times.append(_proposal(drafter, text))
        found[name] = {
            "build": round(build * 1e6),
            "median": round(statistics.median(times) * 1e6),
            "p99": round(statistics.quantiles(times, n=100)[-1] * 1e6),
        }
    return found


def _proposal(drafter: LookupDrafter, text: Ids) -> float:
    tree = Tree(text[-1])
    begin = time.thread_time()
    drafter.propose(text, tree, 32)
    return time.thread_time() - begin


CHECKS: dict[str, Callable[..., dict[str, Any]]] = {"lookup": lookup, "search": search}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"name one of {', '.join(CHECKS)}")
    print(json.dumps(CHECKS[sys.argv[1]](*sys.argv[2:])))
