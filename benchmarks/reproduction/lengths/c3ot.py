"""C3oT: sums of single digits, with long derivations and short ones by rule.

A question is a chain of sums and differences, taken from left to right modulo 10, each with a
letter. The long derivation says each step in words, the short one gives its results alone:

    7 a + 5 b - 4 = --> a : 7 plus 5 is 2 . b : 2 less 4 is 8 .     a 2 b 8
                        8                                           8

A word or sign is a token.

Tiny Llamas are trained from scratch by our trainer on rows of `lengthwise sequences answers`: on
both, on the short or the long ones alone for as many epochs, and on the short ones alone for as
many steps as on both. They stand in FOLDER, and what is there is not trained again. CPU, minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.reproduction.harness import Found, check
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

import lengthwise
from lengthwise.sequences.answers.base import make_answers
from lengthwise.sequences.answers.build import AnswerBuild, build_answers, open_writer
from lengthwise.sequences.answers.c3ot import CONDITIONS, conditioned
from lengthwise.sequences.store import SequenceSet
from lengthwise.training.config import read_config
from lengthwise.training.trainer import train

ROW, TOKENS = 128, 2048
MODEL = {
    "family": "llama", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True,
    "initializer_range": 0.08,
}  # fmt: skip
END, UNKNOWN = "<|endoftext|>", "[UNK]"
WORDS = {"+": "plus", "-": "less"}
COLUMNS = {
    "trained on": "", "steps": ",", "asked for": "", "accuracy": ".1%", "tokens written": ".1f",
    "of the rule's long ones": ".0%",
}  # fmt: skip


def problem(chance: Random, terms: int) -> dict[str, str]:
    """A question with both derivations and the answer."""
    value = chance.randrange(10)
    question, long, short = str(value), [], []
    for letter in "abcdefgh"[: terms - 1]:
        sign, digit = chance.choice("+-"), chance.randrange(10)
        result = (value + digit if sign == "+" else value - digit) % 10
        question += f" {letter} {sign} {digit}"
        long.append(f"{letter} : {value} {WORDS[sign]} {digit} is {result} .")
        short.append(f"{letter} {result}")
        value = result
    return {"question": f"{question} =", "long": " ".join(long), "short": " ".join(short),
            "answer": str(value)}  # fmt: skip


def problems(count: int, terms: int, seed: int) -> list[dict[str, str]]:
    """Different questions; none of seed 0 is one of another seed."""
    chance, found = Random(seed), dict[str, dict[str, str]]()
    while len(found) < count:
        each = problem(chance, terms)
        if (sum(map(ord, each["question"])) % 7 == 0) != (seed == 0):
            continue
        found[each["question"]] = each
    return list(found.values())


def words(folder: Path) -> Path:
    """FOLDER/tokenizer.json, whose tokens are words."""
    every = [*"0123456789abcdefgh+-=:.", "plus", "less", "is", *CONDITIONS.values(), UNKNOWN, END]
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(every)}, UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([END])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def trained(folder: Path, name: str, conditions: str, pairs: Any, length: dict[str, int]) -> Path:
    """FOLDER/NAME, trained unless it was."""
    place = folder / name
    if not (place / "model").exists():
        rows = folder / f"{conditions}-rows"
        method = make_answers("c3ot", {"conditions": conditions}, ROW)
        build_answers(AnswerBuild(pairs, open_writer(str(words(folder))), method, rows))
        table: dict[str, Any] = {
            "out": str(place), "tokens_per_step": TOKENS, "model": MODEL,
            "data": {"train": str(rows)}, "optimizer": {"lr": 3e-3, "weight_decay": 0.0},
            "schedule": {"warmup_steps": 50, "floor": 1e-5},
            "log": {"plot_every": 0, "every": 50}, "checkpoint": {"every": 0}, **length,
        }  # fmt: skip
        train(read_config(table, folder))
    return place


def steps_of(folder: Path, conditions: str, epochs: int) -> int:
    """Steps of so many epochs over rows that were built."""
    rows = SequenceSet(folder / f"{conditions}-rows").buckets[0]
    return rows // (TOKENS // ROW) * epochs


@check(COLUMNS)
def c3ot(
    folder: Path, pairs: int = 2000, terms: int = 5, epochs: int = 12, asked: int = 200
) -> Iterator[Found]:
    """Accuracy and length under both conditions, of models trained on both and on one."""
    (folder := folder.absolute()).mkdir(parents=True, exist_ok=True)
    some, held = problems(pairs, terms, 1), problems(asked, terms, 0)
    whole = {"epochs": epochs}
    for kind in ("long", "short"):
        place = trained(folder, kind, kind, some, whole)
        yield from _asked(place, f"{kind} alone", steps_of(folder, kind, epochs), (kind,), held)
    both = trained(folder, "both", "both", some, whole)
    steps = steps_of(folder, "both", epochs)
    longer = trained(folder, "short-longer", "short", some, {"steps": steps})
    yield from _asked(longer, "short alone, as many steps", steps, ("short",), held)
    yield from _asked(both, "both", steps, ("long", "short"), held)


def _asked(
    place: Path, name: str, steps: int, kinds: tuple[str, ...], held: list[dict[str, str]]
) -> Iterator[Found]:
    with lengthwise.load(str(place / "model"), dtype="fp32") as model:
        for kind in kinds:
            right = count = 0
            rule = sum(len(f"{each['long']} {each['answer']}".split()) for each in held)
            for first in range(0, len(held), 50):
                some = held[first : first + 50]
                found = model.generate_batch(
                    [conditioned(each["question"], kind) for each in some], max_new_tokens=80
                )
                for each, said in zip(some, found, strict=True):
                    right += said.text.split()[-1:] == [each["answer"]]
                    count += len(said.text.split())
            yield {
                "trained on": name, "steps": steps, "asked for": kind,
                "accuracy": right / len(held), "tokens written": count / len(held),
                "of the rule's long ones": count / rule,
            }  # fmt: skip
