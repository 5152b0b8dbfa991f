"""Prompt lookup: rounds on five prompts and behind a document, and what a search costs.

Behind a document: three kinds of work behind 2,000 tokens (the Python reference, then a passage of
prose). `copy`: the passage is given again, to be repeated. `quote`: a question answered by quoting
it. `free`: a story that has nothing to do with either. `every` verifies all that lookup guesses,
`goodput` what its policy chooses with the times of steps it is told (MILLISECONDS; none is measured
here).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, islice

import numpy as np
from benchmarks.reproduction.drafting.five_prompts import COLUMNS, Starter, bench
from benchmarks.reproduction.drafting.prose import ANSWER, ASK, HEAD, NEXT, PASSAGE, QUESTION
from benchmarks.reproduction.drafting.searching import COLUMNS as TIMES, CONTEXT as SEARCHED, timed
from benchmarks.reproduction.harness import Found, Note, Row, check, encode, load, reference

from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed, Goodput, LengthPolicy
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.models.adapted_model import AdaptedModel

CONTEXT = 2000
NEW = 96
# Milliseconds of a step by its tokens, from a quiet 2-core machine in bfloat16.
MILLISECONDS = {1: 21.1, 2: 21.3, 4: 21.9, 8: 23.5, 16: 27.7, 32: 36.0, 64: 51.3}


Ids = list[int]
SETTINGS = {
    "the prototype's: `lookup(max_match=3, min_match=1, max_draft=10, candidates=1)`":
        Lookup(max_draft=10, max_match=3, min_match=1, candidates=1),
    "one chain: `lookup(candidates=1)`": Lookup(candidates=1),
    "one chain, matches of one token too: `lookup(candidates=1, min_match=1)`":
        Lookup(candidates=1, min_match=1),
    "`lookup`": Lookup(),
    "`lookup(min_match=1)`": Lookup(min_match=1),
}  # fmt: skip


@check({"setting": "", **COLUMNS})
def five_prompts() -> Iterator[Found]:
    """Also at settings nearer to those of its authors, and beside recycling."""
    chosen = bench()
    settings: dict[str, list[Starter]] = {
        name: [partial(LookupDrafter, options)] for name, options in SETTINGS.items()
    }
    beside: list[Starter] = [partial(LookupDrafter, Lookup()), chosen.recycling()]
    settings["`lookup + recycling`, its table cold"] = beside
    for name, starters in settings.items():
        yield {"setting": name, **chosen.row(*starters)}


KINDS = {"copy": "copy a passage", "quote": "answer by quoting", "free": "free story"}
DTYPES = ("float32", "bf16")
HOW = tuple(f"{how}, {dtype}" for dtype in DTYPES for how in ("every", "goodput"))


@check({"work": "", "plain": ".2f", **dict.fromkeys(HOW, ".2f")})
def document() -> Iterator[Found]:
    """Tokens a round (forwards, guesses verified, of those right) behind a document."""
    rows: dict[str, Row] = {kind: {"work": name} for kind, name in KINDS.items()}
    for dtype in DTYPES:
        for kind, found in _behind_document(dtype):
            equal = found.pop("equal")
            rows[kind] |= {
                name if name == "plain" else f"{name}, {dtype}": each
                for name, each in found.items()
            }
            if not all(equal):
                yield Note({f"{kind}, {dtype}": "another text than that of plain decoding"})
    yield from rows.values()


def _behind_document(dtype: str) -> Iterator[tuple[str, Row]]:
    model = load(dtype)
    base = Context(model.adapted, Plan())
    loop.prefill(base, document_ids(model))
    suffixes = {
        "copy": encode(model, f"{NEXT}Understood.{ASK}Repeat this text exactly: {PASSAGE}{NEXT}"),
        "quote": encode(model, f"\n\n{QUESTION}{NEXT}{ANSWER}"),
        "free": encode(model, f"{NEXT}Understood.{ASK}Tell me a story of the sea.{NEXT}"),
    }
    for kind, suffix in suffixes.items():
        plain = _generate(base, suffix, None)
        row: Row = {"plain": {"tokens a round": 1, "forwards": plain.metrics.steps}, "equal": []}
        for label, policy in {"every": Fixed(), "goodput": _goodput(model.adapted, base)}.items():
            request = _generate(base, suffix, policy)
            row[label] = {
                "tokens a round": round(request.metrics.accepted_per_step, 2),
                "forwards": request.metrics.steps, "guesses": request.metrics.drafted,
                "right": sum(request.metrics.accepted.values()),
            }  # fmt: skip
            row["equal"].append(request.output == plain.output)
        yield kind, row


def document_ids(model: Model) -> Ids:
    """The Python reference and a passage of prose behind it, CONTEXT tokens in all."""
    before, after = encode(model, HEAD), encode(model, f"\n\n{PASSAGE}")
    return before + reference(model)[: CONTEXT - len(before) - len(after)] + after


def _generate(base: Context, suffix: Sequence[int], policy: LengthPolicy | None) -> Request:
    """Greedy tokens behind context and suffix; with lookup where there is a policy."""
    drafters = (lambda: LookupDrafter(Lookup(min_match=1)),) if policy is not None else ()
    sequence = base.fork(Plan(drafters=drafters))
    # No stop ids: every kind of work runs for the same number of tokens.
    request = loop.begin(sequence, Sampling(), NEW, ())
    loop.start(request, loop.prefill(sequence, suffix))
    for _ in loop.run(request, policy):
        pass
    return request


def _goodput(model: AdaptedModel, base: Context) -> Goodput:
    policy = Goodput(clock=lambda: 0.0)
    for octave in (len(base).bit_length(), len(base).bit_length() + 1):
        for size, milliseconds in MILLISECONDS.items():
            for _ in range(5):
                policy.observe(Load("full", 1, octave), size - 1, milliseconds / 1000)
    return policy


@check({"text": "", **TIMES})
def search() -> Iterator[Found]:
    """Microseconds of processor time of a proposal at 262,144 tokens, by kind of text."""
    model = load("float32")
    assert model.tokenizer is not None
    generator, words = np.random.default_rng(0), len(model.tokenizer)
    texts: dict[str, Ids] = {
        "reference": list(islice(cycle(reference(model)), SEARCHED)),
        "zipf": np.minimum(generator.zipf(1.2, SEARCHED), words - 1).tolist(),
        "one token": [5] * SEARCHED,
    }
    for name, text in texts.items():
        drafter = LookupDrafter(Lookup())
        yield {"text": name, **timed(drafter, text, generator, lambda _, text=text: text)}
