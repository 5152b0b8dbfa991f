"""CopySpec on five prompts, and what a proposal costs behind a long context."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice

import numpy as np
from benchmarks.reproduction.drafting.five_prompts import COLUMNS, bench
from benchmarks.reproduction.drafting.searching import COLUMNS as TIMES, CONTEXT, timed
from benchmarks.reproduction.harness import Found, check, load, reference

from lengthwise.methods.drafting.copyspec import CopySpec, CopySpecDrafter

SETTINGS = {
    "`copyspec` (gamma 3, 10 tokens, last place)": CopySpec(),
    "`copyspec(place=first)`, as in the authors' code": CopySpec(place="first"),
    "`copyspec(gamma=2)`": CopySpec(gamma=2),
    "`copyspec(gamma=5)`": CopySpec(gamma=5),
}


@check({"setting": "", **COLUMNS})
def copyspec() -> Iterator[Found]:
    """The last place and the first, after two, three and five tokens."""
    for name, options in SETTINGS.items():
        yield {"setting": name, **bench().row(partial(CopySpecDrafter, options))}


@check({"text": "", **TIMES})
def search() -> Iterator[Found]:
    """Microseconds of processor time of a proposal at 262,144 tokens."""
    text = list(islice(cycle(reference(load("float32"))), CONTEXT))
    found = timed(CopySpecDrafter(CopySpec()), text, np.random.default_rng(0), lambda _: text)
    yield {"text": "reference", **found}
