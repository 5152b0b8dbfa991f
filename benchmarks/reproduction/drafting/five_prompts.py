"""Drafters that look up what followed, on the real 135M model: rounds are counted, not timed.

    python -m benchmarks.checks.drafting_retrieval rounds
    python -m benchmarks.checks.drafting_retrieval corpus
    python -m benchmarks.checks.drafting_retrieval times

Each prints one JSON line. `rounds`: tokens a round of lookup and copyspec on five prompts (WORK),
also at settings nearer to those of their authors. `corpus`: of the datastore on the same prompts,
over the Python library's sources and over the model's own answers to other questions, some and all
of them. Both are greedy in float32, up to 64 new tokens, every guess verified, and say whether
every text is that of plain decoding. `times`: processor time of a proposal, one thread, in
microseconds, at 262,144 tokens of context.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.reproduction.drafting.lookup import PASSAGE, SEARCHED

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.plan import Plan
from lengthwise.engine.policy import Fixed
from lengthwise.engine.roles import Drafter
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence as Context
from lengthwise.engine.tree import Tree
from lengthwise.methods.drafting.copyspec import CopySpec, CopySpecDrafter
from lengthwise.methods.drafting.corpus import Datastore, fingerprint
from lengthwise.methods.drafting.datastore import DatastoreDrafter, DatastoreDrafting
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.methods.drafting.recycling import Matrix, Recycling, RecyclingDrafter
from lengthwise.tasks.documents import read_document

NEW = 64
CODE = """\
def mean(values):
    total = 0
    for value in values:
        total = total + value
    return total / len(values)


def variance(values):
    middle = mean(values)
    total = 0
    for value in values:
        total = total + (value - middle) ** 2
    return total / (len(values) - 1)
"""
WORK = {
    "summary": f"Summarise the following passage in three sentences.\n\n{PASSAGE}",
    "code": "Rewrite this Python code with type annotations and docstrings.\n\n"
    f"```python\n{CODE}```",
    "repeat": f"Repeat this text exactly: {PASSAGE}",
    "facts": "List ten facts about the planet Mars.",
    "question": "Why is the sky blue?",
}
# What a service may have been asked before.
FACTS = ("Venus", "Jupiter", "Saturn", "Earth", "Mercury", "Neptune", "the Moon", "the Sun")
WHYS = ("the sunset red", "grass green", "the sea salty", "snow white", "blood red", "space dark",
        "the sea blue", "ice slippery")  # fmt: skip
OTHERS = [
    text
    for planet, why in zip(FACTS, WHYS, strict=True)
    for text in (f"List ten facts about {planet}.", f"Why is {why}?")
]

Starter = Callable[[], Drafter]
Found = dict[str, Any]


class Bench:
    """The model, and every prompt of WORK read and answered plainly once."""

    def __init__(self) -> None:
        self.model = lengthwise.load(dtype="float32")
        self.bases: dict[str, Context] = {}
        self.plain: dict[str, list[int]] = {}
        for name, prompt in WORK.items():
            self.bases[name] = Context(self.model.adapted, Plan())
            loop.prefill(self.bases[name], self.encode(prompt))
            self.plain[name] = self.generate(name).output

    def encode(self, prompt: str) -> list[int]:
        return self.model.encode([{"role": "user", "content": prompt}])

    def generate(self, name: str, *starters: Starter) -> Any:
        sequence = self.bases[name].fork(Plan(drafters=starters))
        assert sequence.last_logits is not None
        request = loop.begin(sequence, Sampling(), NEW, self.model.stop_ids())
        loop.start(request, sequence.last_logits)
        for _ in loop.run(request, Fixed()):
            pass
        return request

    def row(self, *starters: Starter) -> Found:
        """Tokens a round by prompt and their mean; nodes verified a round; whether all is equal."""
        requests = {name: self.generate(name, *starters) for name in WORK}
        by_work = {name: round(r.ledger.accepted_per_step, 2) for name, r in requests.items()}
        steps = sum(r.ledger.steps for r in requests.values())
        return {
            **by_work,
            "mean": round(statistics.mean(by_work.values()), 2),
            "nodes": round(sum(r.ledger.drafted for r in requests.values()) / steps, 1),
            "equal": all(r.output == self.plain[name] for name, r in requests.items()),
        }


def rounds() -> Found:
    bench = Bench()
    settings: dict[str, Starter] = {
        "lookup, as in its card": partial(
            LookupDrafter, Lookup(max_draft=10, max_match=3, min_match=1, candidates=1)
        ),
        "lookup(candidates=1)": partial(LookupDrafter, Lookup(candidates=1)),
        "lookup(candidates=1, min_match=1)": partial(
            LookupDrafter, Lookup(candidates=1, min_match=1)
        ),
        "lookup(min_match=1)": partial(LookupDrafter, Lookup(min_match=1)),
        "lookup": partial(LookupDrafter, Lookup()),
        "copyspec(place=first)": partial(CopySpecDrafter, CopySpec(place="first")),
        "copyspec": partial(CopySpecDrafter, CopySpec()),
        "copyspec(gamma=2)": partial(CopySpecDrafter, CopySpec(gamma=2)),
        "copyspec(gamma=5)": partial(CopySpecDrafter, CopySpec(gamma=5)),
    }
    found = {name: bench.row(starter) for name, starter in settings.items()}
    table = Matrix(bench.model.adapted.vocab_size)
    settings["recycling"] = lambda: RecyclingDrafter(Recycling(), table)
    for names in ("lookup + copyspec", "lookup + recycling", "lookup + copyspec + recycling"):
        table = Matrix(bench.model.adapted.vocab_size)
        found[names] = bench.row(*(settings[name] for name in names.split(" + ")))
    lengths = {name: len(output) for name, output in bench.plain.items()}
    return {"check": "rounds", "new": lengths, **found}


def corpus() -> Found:
    bench = Bench()
    found: Found = {"check": "corpus"}
    library = library_files(bench.model.tokenizer)
    for count in (len(library) // 8, len(library)):
        found |= _over(bench, f"library, {count} files", library[:count])
    prompts = [bench.encode(prompt) for prompt in OTHERS]
    written = bench.model.generate_batch(prompts, max_new_tokens=2 * NEW)
    answers = [answer.token_ids for answer in written]
    for count in (len(answers) // 4, len(answers)):
        found |= _over(bench, f"own answers, {count}", answers[:count])
    return found


def library_files(tokenizer: Any) -> list[list[int]]:
    """The modules at the top of Python's library, in an order that is the same everywhere."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.py"))]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    random.Random(0).shuffle(ids)
    return ids


def _over(bench: Bench, name: str, documents: Iterable[Sequence[int]]) -> Found:
    tokenizer = bench.model.tokenizer
    assert tokenizer is not None
    store = Datastore.build(documents, bench.model.adapted.vocab_size, fingerprint(tokenizer))
    row = bench.row(lambda: DatastoreDrafter(DatastoreDrafting(path="in memory"), store))
    return {name: {"tokens": len(store), **row}}


def times() -> Found:
    """Median and 99th percentile; `build` is the first proposal, which indexes the context."""
    tokenizer = lengthwise.load(dtype="float32").tokenizer
    assert tokenizer is not None
    ids = tokenizer.encode(read_document().text, add_special_tokens=False)
    library = library_files(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        Datastore.build(library, len(tokenizer), fingerprint(tokenizer)).save(path)
        store = DatastoreDrafting(path=str(path))
        drafters: dict[str, Drafter] = {
            "lookup": LookupDrafter(Lookup()),
            "copyspec": CopySpecDrafter(CopySpec()),
            "datastore": DatastoreDrafter(store, store.open()),
        }
        code = [token for document in library for token in document]
        found: Found = {"check": "times", "unit": "microseconds", "corpus": len(code)}
        for name, drafter in drafters.items():
            found[name] = _timed(drafter, list(islice(cycle(ids), SEARCHED)), code)
    return found


def _timed(drafter: Drafter, text: list[int], more: Sequence[int]) -> Found:
    """Proposals while a text grows: nine tokens in ten continue an older place of it, or for fifty
    tokens in turn another text."""
    generator = np.random.default_rng(0)
    build = _proposal(drafter, text)
    measured = []
    for step in range(1000):
        source = more if step // 50 % 2 else text
        text.append(source[1000 + step] if generator.random() < 0.9 else 77)
        measured.append(_proposal(drafter, text))
    return {
        "build": round(build * 1e6),
        "median": round(statistics.median(measured) * 1e6),
        "p99": round(statistics.quantiles(measured, n=100)[-1] * 1e6),
    }


def _proposal(drafter: Drafter, text: list[int]) -> float:
    tree = Tree(text[-1])
    begin = time.thread_time()
    drafter.propose(text, tree, 32)
    return time.thread_time() - begin


CHECKS: dict[str, Callable[[], Found]] = {"rounds": rounds, "corpus": corpus, "times": times}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"name one of {', '.join(CHECKS)}")
    print(json.dumps(CHECKS[sys.argv[1]]()))
