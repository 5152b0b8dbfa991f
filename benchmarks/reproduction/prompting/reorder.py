"""Reordering, and tuning on what was retrieved.

`reorder` says that passages of BM25 in another order keep the same evidence. `noisy` asks for made
facts (`facts.py`): first the embedded model as it is, then tuned by our trainer on rows of
`lengthwise sequences answers --method retrieved`. The right fact stands anywhere among the others,
in training too. Models stand in FOLDER, and what is there is not trained again. CPU, weights in
float32 and training in bfloat16; it takes about half an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, LENGTH, SEEDS, row
from benchmarks.reproduction.prompting.facts import PASSAGE, Fact, document, register, right

import lengthwise
from lengthwise.api.answer import write_prompt
from lengthwise.api.model import Model
from lengthwise.documents.document import Document
from lengthwise.models.load import load_pretrained
from lengthwise.recipes import parse
from lengthwise.sequences.answers.base import make_answers
from lengthwise.sequences.answers.build import AnswerBuild, build_answers, open_writer
from lengthwise.training.config import read_config
from lengthwise.training.trainer import train

ASKED, MOST = 50, 20
COUNTS = (1, 5, MOST)
WAYS = {
    "untuned": None,
    "tuned, random": {"negatives": "random"},
    "tuned, retrieved": {},
    "tuned, with reasons": {"reasons": "true"},
}
NOISY = {"model": "", "beside the right one": "", **{f"k={k}": ".0%" for k in COUNTS}}
ORDERS = {"model": "", "order": "", **{f"k={k}": ".0%" for k in COUNTS[1:]}}


@check(COLUMNS)
def reorder(length: int = LENGTH, seeds: int = SEEDS) -> Iterator[Found]:
    """Evidence kept at shares of the tokens."""
    for options in ("budget=10%", "budget=5%"):
        yield row(f"reorder({options})", length, seeds)
    yield row("bm25(budget=10%)", length, seeds)


@check(NOISY, orders=ORDERS)
def noisy(
    folder: Path, examples: int = 192, epochs: int = 1, rate: float = 1e-4, k: int = 10
) -> Iterator[Found]:
    """Right answers about made facts among hard negatives and random ones, by order and tuning."""
    (folder := folder.absolute()).mkdir(parents=True, exist_ok=True)
    facts = register(0, held=True)
    asked = Random(1).sample(facts, ASKED)
    for name, options in WAYS.items():
        place = checkpoint(folder)
        if options is not None:
            place = tuned(folder, name, options, examples, epochs, rate, k)
        with lengthwise.load(str(place)) as model:
            for kind in ("hard", "random"):
                shares = {f"k={k}": share(model, asked, *prompts(kind, facts, k)) for k in COUNTS}
                yield {"model": name, "beside the right one": kind, **shares}
            for order in ("rank", "ends"):
                shares = {
                    f"k={k}": share(model, asked, *prompts(order, facts, k)) for k in COUNTS[1:]
                }
                yield ("orders", {"model": name, "order": order, **shares})


def prompts(kind: str, facts: list[Fact], k: int) -> tuple[str, Any]:
    """A recipe, and which facts it is given for one that is asked for."""
    options = f"k={k}, passage={PASSAGE}, budget=4096"
    if kind == "random":
        return f"bm25({options})", lambda fact: drawn(fact, facts, k)
    recipe = f"bm25({options})" if kind == "hard" else f"reorder({options}, order={kind})"
    return recipe, lambda fact: facts


def drawn(fact: Fact, facts: list[Fact], k: int) -> list[Fact]:
    """A fact among others by lot."""
    chance = Random(fact.text)
    found = [fact, *chance.sample([each for each in facts if each is not fact], k - 1)]
    chance.shuffle(found)
    return found


def share(model: Model, asked: list[Fact], recipe: str, given: Any) -> float:
    """Right answers, each prompt written by a recipe."""
    method, ids = parse(recipe).prompting, []
    for fact in asked:
        read = Document.from_text(document(given(fact)))
        found = write_prompt(model, method, [read], fact.question)
        assert fact.text in found.text.text
        ids.append([*found.ids.prefix, *found.ids.suffixes[0]])
    said = model.generate_batch(ids, max_new_tokens=32)
    return sum(right(each.text, fact) for each, fact in zip(said, asked, strict=True)) / len(asked)


def pairs(examples: int) -> list[dict[str, str]]:
    """Questions about facts of people that nobody is asked about, eight a register."""
    found = []
    for seed in range((examples + 7) // 8):
        facts = register(100 + seed, held=False)
        for fact in Random(seed).sample(facts, 8):
            found.append({
                "question": fact.question, "document": document(facts), "reason": fact.text,
                "answer": fact.value,
            })  # fmt: skip
    return found[:examples]


def checkpoint(folder: Path) -> Path:
    """The embedded model as a folder that is trained on."""
    place = folder / "base"
    if not place.exists():
        model, tokenizer, _ = load_pretrained(None, "fp32")
        model.config.quantization_config = None
        del model.config.quantization_config
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
    return place


def tuned(
    folder: Path, name: str, options: dict[str, str], examples: int, epochs: int, rate: float,
    k: int,
) -> Path:  # fmt: skip
    """FOLDER/NAME/model, trained unless it was."""
    place = folder / name.rpartition(" ")[2]
    if (place / "model").exists():
        return place / "model"
    base, rows = checkpoint(folder), folder / f"{place.name}-rows"
    recipe = f"bm25(k={k}, passage={PASSAGE}, budget=4096)"
    method = make_answers("retrieved", {"recipe": recipe, **options}, 512)
    build_answers(AnswerBuild(list(pairs(examples)), open_writer(str(base)), method, rows))
    train(read_config({
        "out": str(place), "tokens_per_step": 512, "epochs": epochs, "precision": "bf16",
        "model": {"checkpoint": str(base)}, "data": {"train": str(rows)},
        "optimizer": {"lr": rate, "weight_decay": 0.0},
        "schedule": {"warmup_steps": 5, "floor": rate / 10},
        "log": {"plot_every": 0, "every": 10}, "checkpoint": {"every": 0},
    }, folder))  # fmt: skip
    return place / "model"
