"""What choosers keep of what was planted: keys and a list of words in Python's language reference.

For each planted thing the question of its probe is asked by itself. Kept is the share of keys, and
of lists, that stand whole in what is read. TOKENS is what was read for a question, mean: the prompt
and whatever was read to choose it. OTHERS is how many other keys stand in what is read, mean over
the keys asked for: a model that takes notes may write them down as the key of the door asked for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from benchmarks.reproduction.harness import Row, load, reference

from lengthwise.api.text_model import LocalText
from lengthwise.evaluation.tasks.probes import probe_context
from lengthwise.methods.base import Method
from lengthwise.methods.prompts import Passage, PromptText, TextModel, cut, pieces, whole, within
from lengthwise.recipes import parse
from lengthwise.retrieval.sentences import sentences

LENGTH, SEEDS = 16_384, 4
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
KEYS, WORDS, TOKENS = "keys kept, %", "words kept, %", "tokens a question"
COLUMNS = {"recipe": "", KEYS: ".0f", WORDS: ".0f", TOKENS: ",.0f"}
OTHERS = "other keys read"
NOTED = {"recipe": "", KEYS: ".0f", OTHERS: ".1f", WORDS: ".0f", TOKENS: ",.0f"}
_KEY = re.compile(r"\d{7}")


@dataclass(frozen=True)
class Asked:
    """One thing that is planted in a document: what is asked, and the text that answers."""

    document: str
    question: str
    evidence: str
    kind: str


@cache
def asked(length: int, seeds: int) -> tuple[Asked, ...]:
    """What is planted, five keys and a list of words a seed."""
    model = load()
    tokenizer = model.tokenizer
    assert tokenizer is not None
    found = []
    for seed in range(seeds):
        probes = probe_context(reference(model), tokenizer, length, DEPTHS, seed)
        document = str(tokenizer.decode(list(probes.context)))
        for probe in probes.probes:
            cue = str(tokenizer.decode(list(probe.suffix))).strip()
            kind = KEYS if probe.name.startswith("needle") else WORDS
            found.append(Asked(document, cue, probe.answer, kind))
    return tuple(found)


def row(recipe: str, length: int, seeds: int, others: bool = False) -> Row:
    """What a recipe keeps. others: whether other keys are counted, too."""
    method = parse(recipe).prompting
    assert method is not None
    return _row(f"`{recipe}`", method, length, seeds, others)


def baselines(share: float, length: int, seeds: int) -> Iterator[Row]:
    """As many tokens from the beginning, and as many in passages drawn at random."""
    yield _row(f"the first {share:g}%", Beginning(share), length, seeds)
    yield _row(f"{share:g}% at random", Random(share), length, seeds)


def _row(
    name: str, method: Method | Beginning, length: int, seeds: int, others: bool = False
) -> Row:
    kept: dict[str, list[bool]] = {KEYS: [], WORDS: []}
    tokens, strange = 0, []
    every = asked(length, seeds)
    for each in every:
        reader = _Remembering(load())
        found = method.write_prompt([each.document], each.question, reader)
        kept[each.kind].append(each.evidence in found.text)
        tokens += reader.tokens_read + reader.count(found.text)
        if each.kind == KEYS:
            strange.append(len(set(_KEY.findall(found.text)) - {*_KEY.findall(each.evidence)}))
    return {
        "recipe": name, TOKENS: tokens / len(every),
        **({OTHERS: sum(strange) / len(strange)} if others else {}),
        **{kind: 100 * sum(each) / len(each) for kind, each in kept.items()},
    }  # fmt: skip


class _Remembering(LocalText):
    """Writes of a text once what it was told the same of it, and counts it each time: some methods
    read a document whatever is asked."""

    told: ClassVar[dict[tuple[str, str, int], tuple[str, int]]] = {}

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        key = (text, question, max_new_tokens)
        if key in self.told:
            self.tokens_read += self.told[key][1]
        else:
            before = self.tokens_read
            answer = super().write(text, question, max_new_tokens, stream)
            self.told[key] = answer, self.tokens_read - before
        return self.told[key][0]


@dataclass(frozen=True)
class Beginning:
    share: float

    def write_prompt(self, documents: list[str], question: str, model: TextModel) -> PromptText:
        (passage,) = whole(documents)
        return PromptText((cut(model, passage, self._budget(documents, model)),), question)

    def _budget(self, documents: list[str], model: TextModel) -> int:
        return round(model.count(documents[0]) * self.share / 100)


class Random(Beginning):
    def write_prompt(self, documents: list[str], question: str, model: TextModel) -> PromptText:
        found: list[Passage] = list(pieces(documents, model, 128, sentences))
        random.Random(question).shuffle(found)
        return PromptText(within(model, found, self._budget(documents, model)), question)
