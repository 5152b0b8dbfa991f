"""What guessing costs behind a long context: its share of decoding time, on the real model.

    python -m benchmarks.checks.drafting_share [--context 32768] [--new 128] [--recipe full]

Prints one JSON line: of every drafter that asks no model, the share of drafting (guessing, choosing
and learning) in the seconds of decoding, of its time a step in milliseconds, and tokens a round.
`recipe` says what the cache keeps: behind `streaming` a step is as fast as behind a short context,
and guessing weighs most. The document is the Python reference, read once for all; the index of the
context is built at the first guess and counted. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.methods.drafting.corpus import Datastore, fingerprint
from lengthwise.tasks.documents import read_document

DRAFTERS = ("lookup", "copyspec", "recycling", "aded", "datastore(path=STORE)",
            "lookup + recycling", "lookup + recycling + aded")  # fmt: skip
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="what guessing costs behind a long context")
    parser.add_argument("--context", type=int, default=32_768)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--recipe", default="full")
    chosen = parser.parse_args()
    model = lengthwise.load()
    ids = model.encode(read_document(None).text)[: chosen.context]
    base = Sequence(model.adapted, model.plan(chosen.recipe), expected=len(ids) + 2 * chosen.new)
    logits = loop.prefill(base, ids)
    found: dict[str, Any] = {"context": len(ids), "recipe": chosen.recipe}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        vocabulary = model.adapted.vocab_size, fingerprint(model.tokenizer)
        Datastore.build([ids[: chosen.context // 2]], *vocabulary).save(store)
        for drafter in DRAFTERS:
            named = drafter.replace("STORE", json.dumps(str(store)))
            plan = model.plan(f"{chosen.recipe} + {named}")
            shares, steps, rounds = [], [], []
            for _ in range(ROUNDS):
                request = loop.begin(base.fork(plan), Sampling(), chosen.new, ())
                loop.start(request, logits)
                while not request.done:
                    loop.step([request])
                ledger = loop.finish(request)
                shares.append(ledger.draft_s / ledger.decode_s)
                steps.append(1e3 * ledger.decode_s / ledger.steps)
                rounds.append(ledger.accepted_per_step)
            found[drafter] = {
                "share": round(statistics.median(shares), 4),
                "first_share": round(shares[0], 4),
                "step_ms": round(statistics.median(steps), 1),
                "tokens_a_round": round(statistics.median(rounds), 2),
            }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
