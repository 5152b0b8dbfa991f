"""APE on eight passages of which one has the answer: the card's check, tuned on other samples.

A passage is a stretch of the default document with a sentence in it: whose boat lies in which
harbour. All eight have one, so that a wrong passage gives a wrong name. What is measured is the
loss of the right name (nats a token) behind the question, in the model's chat template.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from benchmarks.reproduction.harness import Found, Note, check, encode, load, reference

import lengthwise
from lengthwise.api.model import Model

PASSAGES = 8
TOKENS = 96
TUNING, TESTING = 1, 2
HARBOURS = (
    "Alden", "Brekka", "Corran", "Dunmore", "Eskvik", "Fallow", "Garron", "Heldal", "Inver",
    "Jarlow", "Kelby", "Lunna", "Merrow", "Norvik", "Oban", "Portree",
)  # fmt: skip
OWNERS = (
    "Agnes Hartley", "Bruno Castellan", "Clara Whitmore", "Daniel Okafor", "Edith Lindqvist",
    "Felix Moreau", "Greta Sandoval", "Hugo Pemberton", "Irene Kowalski", "Jonas Abernathy",
    "Kirsten Valdez", "Leopold Nakamura", "Martha Ellison", "Nathan Dubois", "Olivia Brennan",
    "Pascal Rutherford",
)  # fmt: skip
TEMPERATURES = (0.6, 0.8, 0.9, 1.0)
SCALES = (0.8, 0.9, 1.0, 1.1)
PREFIX = "Answer from these passages.\n\n"


@dataclass(frozen=True)
class Sample:
    """prefix, documents, question and answer as token ids; documents and question begin anew.

    asked: number of the document that has the answer.
    """

    prefix: list[int]
    documents: list[list[int]]
    question: list[int]
    answer: list[int]
    asked: int


def samples(model: Model, count: int, seed: int) -> Iterator[Sample]:
    """So many questions, each about passages of its own. seed: TUNING and TESTING share none."""
    assert model.tokenizer is not None
    for number in range(count):
        chosen = random.Random(f"{seed} {number}")
        harbours, owners = (chosen.sample(each, PASSAGES) for each in (HARBOURS, OWNERS))
        facts = [
            f"The red boat in the harbour of {harbour} belongs to {owner}."
            for harbour, owner in zip(harbours, owners, strict=True)
        ]
        asked = chosen.randrange(PASSAGES)
        rendered = model.tokenizer.apply_chat_template(
            [{"role": "user", "content": "<>"}], add_generation_prompt=True, tokenize=False
        )
        head, tail = str(rendered).split("<>")
        begun = f"The red boat in the harbour of {harbours[asked]} belongs to"
        question = f"Who owns the red boat in the harbour of {harbours[asked]}?"
        yield Sample(
            encode(model, head + PREFIX),
            [_passage(model, fact, chosen) for fact in facts],
            encode(model, f"{question}{tail}{begun}"),
            encode(model, f" {owners[asked]}"),
            asked,
        )


def _passage(model: Model, fact: str, chosen: random.Random) -> list[int]:
    """A stretch of the default document with a fact in its midst."""
    document = reference(model)
    start = chosen.randrange(len(document) - TOKENS)
    half = chosen.randrange(TOKENS // 4, 3 * TOKENS // 4)
    before, behind = document[start : start + half], document[start + half : start + TOKENS]
    return [*before, *encode(model, f"\n{fact}\n"), *behind, *encode(model, "\n\n")]


def in_order(model: Model, sample: Sample, documents: list[list[int]]) -> float:
    """The loss of the answer where all of these are read as one text."""
    read = [*sample.prefix, *(token for each in documents for token in each), *sample.question]
    found = model.score([*read, *sample.answer], prompt=len(read))
    return -float(found.mean())


def apart(model: Model, sample: Sample, recipes: list[str]) -> dict[str, float]:
    """The loss of the answer under several settings; the passages are read once for all of them."""
    read = model.read_apart(sample.documents, recipes[0], prefix=sample.prefix)
    found = {}
    for recipe in recipes:
        session = lengthwise.join([read], recipe)
        session.append(sample.question)
        found[recipe] = -float(session.score(sample.answer).mean())
    return found


def mean(losses: list[float]) -> float:
    return sum(losses) / len(losses)


def text(temperature: float, scale: float) -> str:
    """A setting as a recipe."""
    return f"ape(temperature={temperature}, scale={scale})"


@check({"passages": "", "loss of the answer": ".3f"}, tuning={"T": "", **{
    f"S = {scale}": ".3f" for scale in SCALES
}})  # fmt: skip
def ape(count: int = 24, tuning: int = 12) -> Iterator[Found]:
    """Eight passages in order, apart at 1 and 1, at the paper's 0.9 and 0.9, and as tuned on other
    samples."""
    model = load("bf16")
    settings = {(t, s): text(t, s) for t, s in product(TEMPERATURES, SCALES)}
    every = list(settings.values())
    tuned = [apart(model, each, every) for each in samples(model, tuning, TUNING)]
    losses = {name: mean([each[name] for each in tuned]) for name in every}
    for temperature in TEMPERATURES:
        found = {f"S = {scale}": losses[settings[temperature, scale]] for scale in SCALES}
        yield "tuning", {"T": temperature, **found}
    best = min(every, key=lambda name: losses[name])
    tests = list(samples(model, count, TESTING))
    plain, paper = text(1.0, 1.0), text(0.9, 0.9)
    tested = [apart(model, each, [plain, paper, best]) for each in tests]
    rows = {
        "none": [in_order(model, each, []) for each in tests],
        "in order": [in_order(model, each, each.documents) for each in tests],
        "apart, T = S = 1": [each[plain] for each in tested],
        "apart, T = S = 0.9": [each[paper] for each in tested],
        f"apart, `{best}`": [each[best] for each in tested],
    }
    for name, each in rows.items():
        yield {"passages": name, "loss of the answer": mean(each)}
    pairs = zip(rows[f"apart, `{best}`"], rows["apart, T = S = 1"], strict=True)
    yield Note(best=best, better_than_plain=sum(ours < theirs for ours, theirs in pairs))
