"""ADED: every rule of learning with every search, and three of them beside others."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.drafting.tables_kept import (
    COLUMNS,
    COSTS,
    VOCAB,
    aded as drafting,
    cost,
    lookup,
    recycling,
    rounds,
    spent,
)
from benchmarks.reproduction.harness import Found, Note, check, load, reference

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.methods.drafting.aded import ADED, END, ADEDDrafter, Trigrams
from lengthwise.methods.drafting.recycling import Recycling

OURS = ADED(learn="logits", search="products")


class Unread(ADEDDrafter):
    """Leaves the prompt out, as the authors' code does; it has no corpus either."""

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.trigrams.note(sequence.tokens[-END:])


@check({"drafters": "", **COLUMNS})
def aded() -> Iterator[Found]:
    """Tokens a round on five prompts."""
    yield {"drafters": "`aded`: text, sums", **rounds(drafting(ADED()))}
    table = Trigrams(VOCAB)
    unread = rounds(lambda: Unread(ADED(), table))
    yield {"drafters": "the same, the prompt left out", **unread}
    for learn, search in (("text", "products"), ("logits", "sums"), ("logits", "products")):
        options = ADED(learn=learn, search=search)
        yield {"drafters": f"{learn}, {search}", **rounds(drafting(options))}
    for options, name in ((ADED(), "aded"), (OURS, "logits, products")):
        yield {"drafters": f"lookup + {name}", **rounds(lookup, drafting(options))}
    for options, name in ((ADED(), "aded"), (OURS, "logits, products")):
        found = rounds(lookup, recycling(Recycling()), drafting(options))
        yield {"drafters": f"lookup + recycling + {name}", **found}


@check(COSTS)
def costs() -> Iterator[Found]:
    """Milliseconds of processor time of proposing and learning, one thread."""
    text = reference(load())[:32_768]
    trigrams = Trigrams(VOCAB)
    yield Note(milliseconds_to_read_the_text=round(spent(lambda: trigrams.read(text, 0.3)), 1))
    yield cost("aded", ADEDDrafter(ADED(), trigrams), text)
    yield cost("aded(learn=logits, search=products)", ADEDDrafter(OURS, trigrams), text)
