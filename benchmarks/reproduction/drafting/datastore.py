"""The datastore on five prompts, over Python's library and over the model's own answers.

Over sources of the library and answers to other questions, some and all of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from benchmarks.reproduction.drafting.five_prompts import COLUMNS, bench, library_files
from benchmarks.reproduction.drafting.searching import COLUMNS as TIMES, CONTEXT, timed
from benchmarks.reproduction.harness import Found, check, load, reference

from lengthwise.methods.drafting.datastore import DatastoreDrafter, DatastoreDrafting
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.retrieval.datastore import Datastore, fingerprint


@check({"corpus": "", "tokens": "", **COLUMNS})
def datastore() -> Iterator[Found]:
    """Parts of two corpora and all of them; and lookup, which has none."""
    chosen = bench()
    library, answers = library_files(chosen.model.tokenizer), chosen.answers()
    corpora = {
        **{f"library, {n} files": library[:n] for n in (len(library) // 8, len(library))},
        **{f"own answers, {n}": answers[:n] for n in (len(answers) // 4, len(answers))},
    }
    for name, documents in corpora.items():
        store = chosen.store(documents)
        drafter = partial(DatastoreDrafter, DatastoreDrafting(path="in memory"), store)
        yield {"corpus": name, "tokens": len(store), **chosen.row(drafter)}
    found = chosen.row(partial(LookupDrafter, Lookup(min_match=1)))
    yield {"corpus": "none: `lookup(min_match=1)`", **found}


@check({"text": "", **TIMES})
def search() -> Iterator[Found]:
    """Microseconds of processor time of a proposal at 262,144 tokens of context, for fifty tokens
    in turn over a text that the corpus holds and over another."""
    model = load("float32")
    library = library_files(model.tokenizer)
    code = [token for document in library for token in document]
    text = list(islice(cycle(reference(model)), CONTEXT))
    assert model.tokenizer is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        tokens = fingerprint(model.tokenizer)
        Datastore.build(library, len(model.tokenizer), tokens).save(path)
        store = DatastoreDrafting(path=str(path))
        found = timed(
            DatastoreDrafter(store, store.open()), text, np.random.default_rng(0),
            lambda step: code if step // 50 % 2 else text,
        )  # fmt: skip
    yield {"text": f"reference, {len(code):,} tokens of corpus", **found}
