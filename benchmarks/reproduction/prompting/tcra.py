"""TCRA-LLM: words of least delta against words at random, and what is kept of what is planted."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from statistics import fmean

from benchmarks.reproduction.harness import Found, check, load
from benchmarks.reproduction.prompting.evidence import COLUMNS, row

from lengthwise.api.text_model import LocalText
from lengthwise.documents.files import read_document
from lengthwise.methods.prompting.tcra import shortened
from lengthwise.methods.prompts import Passage
from lengthwise.retrieval.dense import vectors_of
from lengthwise.retrieval.lexical import words
from lengthwise.retrieval.stop_words import LISTS

WAY, COSINE, BETTER = "words left out", "cosine", "above chance, of 50"
STOP, TOKENS_GONE = "stop words among them, %", "tokens gone, %"
_WORD = re.compile(r"\w+(?:['’]\w+)*\s*")


def paragraphs(count: int) -> list[str]:
    """The first paragraphs of prose of the default document, of 40 to 120 words each."""
    found = (" ".join(each.split()) for each in re.split(r"\n\s*\n", read_document().text))
    return [each for each in found if each.endswith(".") and 40 <= len(words(each)) <= 120][:count]


@check(
    {WAY: "", COSINE: ".4f", BETTER: "", STOP: ".0f", TOKENS_GONE: ".1f"},
    evidence=COLUMNS,
)
def tcra(
    encoder: str, count: int = 50, ratio: float = 0.2, length: int = 4096, seeds: int = 1
) -> Iterator[Found]:
    """Cosines after a fifth of the tokens has gone, and evidence kept. The encoder is the folder of
    one."""
    yield from _cosines(encoder, count, ratio)
    for options in ("budget=10%", "budget=10%, compress=summary"):
        found = row(f'tcra({options}, encoder="{encoder}")', length, seeds)
        yield "evidence", found | {"recipe": f"`tcra({options})`"}
    yield "evidence", row("bm25(budget=10%)", length, seeds)
    found = row(f'dense(budget=10%, encoder="{encoder}")', length, seeds)
    yield "evidence", found | {"recipe": "`dense(budget=10%)`"}


def _cosines(encoder: str, count: int, ratio: float) -> Iterator[Found]:
    texts, model = paragraphs(count), LocalText(load())
    sizes = [model.count(text) for text in texts]
    targets = [int(size * (1 - ratio)) for size in sizes]
    pairs = list(zip(texts, targets, strict=True))
    ways = {
        "at random": [_random(text, target, model, n) for n, (text, target) in enumerate(pairs)]
    }
    for rounds in (1, 4):
        ways["of least delta" + (f", rounds={rounds}" if rounds > 1 else "")] = [
            "".join(run.text for run in shortened(
                Passage(text, 0, 0, len(text)), target, model, encoder, rounds
            ))
            for text, target in pairs
        ]  # fmt: skip
    before = vectors_of(texts, encoder)
    cosines = {way: (before * vectors_of(left, encoder)).sum(1) for way, left in ways.items()}
    every = [word for text in texts for word in words(text)]
    for way, left in ways.items():
        gone = [word for text, short in zip(texts, left, strict=True)
                for word in _gone(words(text), words(short))]  # fmt: skip
        left_tokens = sum(model.count(text) for text in left)
        yield {
            WAY: way, COSINE: float(cosines[way].mean()),
            BETTER: "" if way == "at random" else int((cosines[way] > cosines["at random"]).sum()),
            STOP: 100 * fmean(word in LISTS["en"] for word in gone),
            TOKENS_GONE: 100 * (1 - left_tokens / sum(sizes)),
        }  # fmt: skip
    yield {
        WAY: "(all words)", COSINE: "", BETTER: "",
        STOP: 100 * fmean(word in LISTS["en"] for word in every), TOKENS_GONE: "",
    }  # fmt: skip


def _random(text: str, target: int, model: LocalText, seed: int) -> str:
    """The text without words drawn at random, of as many tokens."""
    spans = [match.span() for match in _WORD.finditer(text)]
    random.Random(seed).shuffle(spans)
    gone: set[tuple[int, int]] = set()
    short = text
    for span in spans:
        if model.count(short) <= target:
            break
        gone.add(span)
        parts, start = [], 0
        for low, high in sorted(gone):
            parts.append(text[start:low])
            start = high
        short = "".join([*parts, text[start:]])
    return short


def _gone(before: list[str], after: list[str]) -> Iterator[str]:
    """Words that are left out; those that are left stand in their order."""
    rest = iter(after)
    held = next(rest, None)
    for word in before:
        if word == held:
            held = next(rest, None)
        else:
            yield word
