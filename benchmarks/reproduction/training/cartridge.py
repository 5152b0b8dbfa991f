"""Cartridges: 64 trained keys and values a layer for a corpus of 1,000 tokens.

Against no context, the whole corpus, and plain next-token training of as many. The corpus is a
register of made-up people, so that no model knows it. Losses are nats a token of the teacher's 20
likeliest on held-out pairs. Two passes over the pairs, as in the authors' script. The pairs are
kept beside the figures; without their file they are made anew. One thread; about 20 minutes, and 10
more to make the pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from benchmarks.reproduction.harness import Found, Note, check, load
from benchmarks.reproduction.tables import RESULTS

from lengthwise.api.cartridge import initial_session
from lengthwise.api.model import Model
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
RATES = (2e-2, 2e-3)
"""That of the authors' script, and a tenth of it."""


@check({"prefix": "", "tokens": "", "rate": "g", "loss": ".3f"})
def cartridge(
    tokens: int = 64, steps: int = 100, pairs: int = 200, held_out: int = 40, batch: int = 4,
    row: int = 64, seed: int = 0,
) -> Iterator[Found]:  # fmt: skip
    """Losses without context, with a cartridge, with next-token training, and with the corpus."""
    model, text = load(), register()
    study = SelfStudy(model, text, STUDY)
    made = known_pairs(study, pairs + held_out)
    rows = study.teach(made)
    taught, held = rows[:pairs], rows[pairs:]
    begun = initial_session(model, text, tokens)
    predicted = sum(row.predicted for row in held)
    yield Note(identity=identity(text), corpus=len(study.ids), predicted=predicted)

    def loss(prefix: Prefix | None) -> float:
        return round(mean_loss(model.adapted, prefix, held), 4)

    def fresh() -> Prefix:
        return Prefix(entries_of(begun.held))

    yield {"prefix": "none", "tokens": 0, "loss": loss(None)}
    yield {"prefix": "the corpus's first tokens", "tokens": len(begun), "loss": loss(fresh())}
    for rate in RATES:
        settings = Settings(tokens=tokens, batch=batch, lr=rate, seed=seed)
        trained, plain = fresh(), fresh()
        fit(model, trained, taught, settings, steps)
        yield {"prefix": "cartridge", "tokens": tokens, "rate": rate, "loss": loss(trained)}
        train_on_text(model, text, plain, replace(settings, max_length=row), steps)
        yield {"prefix": "next-token training", "tokens": tokens, "rate": rate, "loss": loss(plain)}
    whole = len(initial_session(model, text, 10**6))
    found = evaluate(model, None, text, held)["corpus"]
    yield {"prefix": "the corpus", "tokens": whole, "loss": round(found, 4)}


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


def identity(text: str) -> float:
    """How far an untrained cartridge of the whole corpus is from the corpus in the prompt: the
    largest difference of a log-probability, in float32."""
    model: Model = load("fp32")
    asked = "Who is the weaver, and where do they live?"
    whole = initial_session(model, text, 10**6)
    ids = model.encode([{"role": "system", "content": text}, {"role": "user", "content": asked}])
    start = len(whole)
    found, wanted = whole.score(ids[start:]), model.score(ids)[start - 1 :]
    return float(torch.max((found - wanted).abs()))
