"""Five prompts that drafters are compared on: tokens a round are counted, nothing is timed.

Summarise a passage, rewrite Python code, repeat a text, list facts, answer a short question: greedy
in float32, up to 64 new tokens, every guess verified, every text that of plain decoding.
"""

from __future__ import annotations

import random
import statistics
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.reproduction.drafting.prose import PASSAGE
from benchmarks.reproduction.harness import Row, load

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.methods.drafting.recycling import Matrix, Recycling, RecyclingDrafter
from lengthwise.retrieval.datastore import Datastore, fingerprint

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

GUESSES = "guesses a round"

Starter = Callable[[], Drafter]
# A row begins with what is compared.
COLUMNS = {**dict.fromkeys(WORK, ".2f"), "mean": ".2f", GUESSES: ".1f"}


class Bench:
    """The model, and every prompt of WORK read and answered plainly once."""

    def __init__(self) -> None:
        self.model = load("float32")
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

    def row(self, *starters: Starter) -> Row:
        """Tokens a round by prompt and their mean; guesses verified a round. Raises RuntimeError
        where a text is not that of plain decoding."""
        requests = {name: self.generate(name, *starters) for name in WORK}
        for name, request in requests.items():
            if request.output != self.plain[name]:
                raise RuntimeError(f"{name}: the text is not that of plain decoding")
        by_work = {name: round(r.metrics.accepted_per_step, 2) for name, r in requests.items()}
        steps = sum(r.metrics.steps for r in requests.values())
        return {
            **by_work,
            "mean": round(statistics.mean(by_work.values()), 2),
            GUESSES: round(sum(r.metrics.drafted for r in requests.values()) / steps, 1),
        }

    def answers(self) -> list[list[int]]:
        """What the model itself answers to OTHERS."""
        prompts = [self.encode(prompt) for prompt in OTHERS]
        written = self.model.generate_batch(prompts, max_new_tokens=2 * NEW)
        return [answer.token_ids for answer in written]

    def store(self, documents: Iterable[Sequence[int]]) -> Datastore:
        """A datastore of documents in this model's tokens."""
        tokenizer = self.model.tokenizer
        assert tokenizer is not None
        return Datastore.build(documents, self.model.adapted.vocab_size, fingerprint(tokenizer))

    def recycling(self) -> Starter:
        """Recycling with a table that is empty at the first prompt and kept to the last."""
        table = Matrix(self.model.adapted.vocab_size)
        return lambda: RecyclingDrafter(Recycling(), table)


@cache
def bench() -> Bench:
    """One for all checks of a process."""
    return Bench()


def library_files(tokenizer: Any) -> list[list[int]]:
    """The modules at the top of Python's library, in an order that is the same everywhere."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.py"))]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    random.Random(0).shuffle(ids)
    return ids
