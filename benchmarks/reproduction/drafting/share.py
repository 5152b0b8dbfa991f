"""What guessing costs behind a long context: its share of decoding time, on the real model.

Of every drafter that asks no model, the share of drafting (guessing, choosing and learning) in the
seconds of decoding, of its time a step in milliseconds, and tokens a round. `recipe` says what the
cache keeps: behind `streaming` a step is as fast as behind a short context, and guessing weighs
most. The document is the Python reference, read once for all; the index of the context is built at
the first guess and counted. Nothing else may run meanwhile.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.harness import Found, Note, check, load, reference

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.retrieval.datastore import Datastore, fingerprint

DRAFTERS = ("lookup", "copyspec", "recycling", "aded", "datastore(path=STORE)",
            "lookup + recycling", "lookup + recycling + aded")  # fmt: skip
ROUNDS = 3


@check({"drafter": "", "share": ".4f", "first share": ".4f", "step, ms": ".1f",
        "tokens a round": ".2f"})  # fmt: skip
def share(context: int = 32_768, new: int = 128, recipe: str = "full") -> Iterator[Found]:
    """Medians of three rounds; the first builds the index."""
    model = load()
    ids = reference(model)[:context]
    base = Sequence(model.adapted, model.plan(recipe), expected=len(ids) + 2 * new)
    logits = loop.prefill(base, ids)
    yield Note(context=len(ids), recipe=recipe)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        vocabulary = model.adapted.vocab_size, fingerprint(model.tokenizer)
        Datastore.build([ids[: context // 2]], *vocabulary).save(store)
        for drafter in DRAFTERS:
            named = drafter.replace("STORE", json.dumps(str(store)))
            plan = model.plan(f"{recipe} + {named}")
            shares, steps, rounds = [], [], []
            for _ in range(ROUNDS):
                request = loop.begin(base.fork(plan), Sampling(), new, ())
                loop.start(request, logits)
                while not request.done:
                    loop.step([request])
                metrics = loop.finish(request)
                shares.append(metrics.draft_s / metrics.decode_s)
                steps.append(1e3 * metrics.decode_s / metrics.steps)
                rounds.append(metrics.accepted_per_step)
            yield {
                "drafter": f"`{drafter}`",
                "share": round(statistics.median(shares), 4), "first share": round(shares[0], 4),
                "step, ms": round(statistics.median(steps), 1),
                "tokens a round": round(statistics.median(rounds), 2),
            }  # fmt: skip
