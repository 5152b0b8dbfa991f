"""Cartridges: 64 trained keys and values a layer for a corpus of 1,000 tokens.

Against no context, the whole corpus, and plain next-token training of as many. The corpus is a
register of made-up people, so that no model knows it. Losses are nats a token of the teacher's 20
likeliest on held-out pairs. Two passes over the pairs, as in the authors' script. The pairs are
kept beside the figures; without their file they are made anew. One thread; some minutes a check.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

from benchmarks.reproduction.harness import Found, Note, check, load
from benchmarks.reproduction.tables import RESULTS
from torch.optim import Adam

from lengthwise.api.cartridge import initial_session
from lengthwise.engine.given import entries_of
from lengthwise.training.cartridge import Settings, Study, evaluate
from lengthwise.training.cartridge_fit import fit, train_on_text
from lengthwise.training.cartridge_student import Prefix, mean_loss
from lengthwise.training.cartridge_study import Pair, SelfStudy

PAIRS = RESULTS / "training" / "cartridge_pairs.jsonl"
PEOPLE = (
    "Ada Brun", "Ivo Castell", "Mira Dunn", "Otto Ferrand", "Lena Gross", "Paul Hadley",
    "Nora Ibsen", "Karl Jansen", "Rosa Keller", "Emil Lund", "Vera Moss", "Hugo Nash",
    "Olga Orlov", "Finn Pratt", "Clara Quist", "Jonas Reed", "Ella Strand", "Max Thorne",
    "Lucy Ullman", "Theo Vance", "Anna Wolff", "Peter York", "Sara Zeller", "Leo Abbott",
    "Ida Bergen", "Carl Dexter",
)  # fmt: skip
TRADES = (
    "clock maker", "baker", "glass blower", "boat builder", "teacher", "bee keeper", "doctor",
    "painter", "blacksmith", "singer", "weaver", "miller", "printer", "gardener", "fisher",
    "potter", "tailor", "carpenter", "librarian", "cook", "postman", "barber", "pilot", "lawyer",
    "farmer", "nurse",
)  # fmt: skip
STREETS = ("Harbour Lane", "Mill Street", "Castle Road", "Church Square", "Bridge Street",
           "Garden Row", "North Gate", "River Walk", "Market Street", "Hill Road")  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "grey", "brown")
ANIMALS = ("cat", "dog", "parrot", "goat", "horse", "rabbit", "donkey", "goose")
STUDY = Study(batch=16, min_chunk=100, max_chunk=200, question_tokens=40, answer_tokens=40)
RATE = 2e-2
"""That of the authors' script."""
COLUMNS = {"prefix": "", "tokens": "", "steps": "", "loss": ".3f"}


@check(COLUMNS)
def cartridge(
    tokens: int = 64, steps: tuple[int, ...] = (20, 50, 100), pairs: int = 200,
    held_out: int = 40, batch: int = 4, rate: float = RATE, seed: int = 0,
) -> Iterator[Found]:  # fmt: skip
    """Losses with the corpus, with a cartridge after some steps, and without context."""
    bench = Bench(pairs, held_out, tokens)
    model, held = bench.model, bench.held
    yield Note(corpus=len(bench.study.ids), predicted=sum(row.predicted for row in held))
    whole = len(initial_session(model, bench.text, 10**6))
    found = evaluate(model, None, bench.text, held)
    yield {"prefix": "the corpus", "tokens": whole, "loss": round(found["corpus"], 4)}
    settings = Settings(tokens=tokens, batch=batch, lr=rate, seed=seed)
    taught, prefix = bench.study.teach(bench.made[:pairs]), bench.prefix()
    optimizer = Adam(prefix.parameters(), lr=rate)
    for start, stop in pairwise((0, *steps)):
        fit(model, prefix, taught, settings, stop, start, optimizer)
        yield {"prefix": "cartridge", "tokens": tokens, "steps": stop, "loss": bench.loss(prefix)}
    first = {"prefix": "the corpus's first tokens", "tokens": tokens, "steps": 0}
    yield first | {"loss": bench.loss(bench.prefix())}
    yield {"prefix": "none", "tokens": 0, "loss": round(found["without"], 4)}


@check(COLUMNS | {"rate": "g"})
def next_token(
    tokens: int = 64, steps: int = 100, pairs: int = 200, held_out: int = 40, batch: int = 4,
    row: int = 64, rates: tuple[float, ...] = (RATE, RATE / 10), seed: int = 0,
) -> Iterator[Found]:  # fmt: skip
    """Loss with as many keys and values that were trained to predict the corpus itself."""
    bench = Bench(pairs, held_out, tokens)
    for rate in rates:
        settings = Settings(tokens=tokens, batch=batch, lr=rate, seed=seed, max_length=row)
        prefix = bench.prefix()
        train_on_text(bench.model, bench.text, prefix, settings, steps)
        yield {"prefix": "next-token training", "tokens": tokens, "steps": steps, "rate": rate,
               "loss": bench.loss(prefix)}  # fmt: skip


@check({"cartridge": "", "corpus in the prompt": "", "largest difference": ".1e"})
def identity() -> Iterator[Found]:
    """An untrained cartridge of the whole corpus against the corpus in the prompt, in float32."""
    model, text = load("fp32"), register()
    asked = "Who is the weaver, and where do they live?"
    whole = initial_session(model, text, 10**6)
    ids = model.encode([{"role": "system", "content": text}, {"role": "user", "content": asked}])
    found = whole.score(ids[len(whole) :])
    wanted = model.score(ids)[len(whole) - 1 :]
    yield {"cartridge": round(float(found.mean()), 4),
           "corpus in the prompt": round(float(wanted.mean()), 4),
           "largest difference": float((found - wanted).abs().max())}  # fmt: skip


class Bench:
    """The model, the corpus, the pairs, and what held-out rows lose behind a prefix."""

    def __init__(self, pairs: int, held_out: int, tokens: int) -> None:
        self.model, self.text = load(), register()
        self.study = SelfStudy(self.model, self.text, STUDY)
        self.made = known_pairs(self.study, pairs + held_out)
        self.held = self.study.teach(self.made[pairs:])
        self._begun = initial_session(self.model, self.text, tokens)

    def prefix(self) -> Prefix:
        return Prefix(entries_of(self._begun.held))

    def loss(self, prefix: Prefix | None) -> float:
        return round(mean_loss(self.model.adapted, prefix, self.held), 4)


def register(seed: int = 0) -> str:
    """A register of made-up people, about 1,000 tokens."""
    chance = Random(seed)
    trades = list(TRADES)
    chance.shuffle(trades)
    lines = ["The people of Harrow Bay"]
    for name, trade in zip(PEOPLE, trades, strict=True):
        born, number = chance.randint(1901, 1969), chance.randint(2, 98)
        lines.append(
            f"{name} is a {trade}. {name.split()[0]} was born in {born}, lives at {number} "
            f"{chance.choice(STREETS)} in a {chance.choice(COLOURS)} house, and keeps a "
            f"{chance.choice(ANIMALS)}."
        )
    return "\n\n".join(lines)


def known_pairs(study: SelfStudy, count: int, path: Path = PAIRS) -> list[Pair]:
    """The pairs of the file, or new ones, which are put there."""
    if path.exists():
        lines = path.read_text("utf-8").splitlines()
        return [Pair.of(json.loads(line)) for line in lines][:count]
    found: list[Pair] = []
    number = 0
    while len(found) < count:
        found += study.converse(number)
        number += 1
    lines = [json.dumps(pair.record(), ensure_ascii=False) for pair in found[:count]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return found[:count]
