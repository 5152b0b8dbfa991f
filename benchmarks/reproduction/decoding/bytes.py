"""Exact laws of the next byte: prompts cut anywhere, and two tokenizers as one."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, Note, check, load
from benchmarks.reproduction.stories15m import stories15m

import lengthwise
from lengthwise.api.continuations import laws_along
from lengthwise.api.model import Model
from lengthwise.documents.files import read_document
from lengthwise.tokenization.valid_encodings import spelling_of

# Where documents of its training began.
FIRST = 0
# Stories told to children, among the books, up to the next one.
STORIES, NEXT = "[Stories to Tell to Children", "[The Adventures of Buster Bear"
WEIGHTS = [round(0.05 * number, 2) for number in range(21)]
Floats = np.ndarray


@check({"prompts": "", "laws": "", "loss as tokens": ".4f", "loss exact": ".4f",
        "no chance as tokens": "", "largest leak": ".1e"})  # fmt: skip
def bytes(prompts: int = 60, words: int = 40, seed: int = 0) -> Iterator[Found]:
    """Prompts cut at any byte: bits of the true next byte by the prompt's own tokens, and exact."""
    model, text = load("float32"), read_document().text
    drawn = random.Random(seed)
    kinds: dict[str, list[tuple[float, float, float]]] = {"within a word": [], "at its end": []}
    for _ in range(prompts):
        start = drawn.randrange(len(text) - 4000)
        piece = text[start:].split(" ", words)
        before, word = " ".join(piece[1 : words - 1]), piece[words - 1]
        if len(word) < 3 or not word.isalpha():
            continue
        for kind, cut in (("within a word", drawn.randrange(1, len(word))),
                          ("at its end", len(word))):  # fmt: skip
            prompt = f"{before} {word[:cut]}"
            true = (word[cut:] + " ").encode()[0]
            law = model.bytes(prompt).law()
            naive = float(_by_tokens(model, prompt)[true])
            kinds[kind].append((naive, float(law.probs[true]), abs(law.leak)))
    for kind, found in kinds.items():
        naive, exact, leak = (np.array(each) for each in zip(*found, strict=True))
        yield {"prompts": kind, "laws": len(found), "loss as tokens": _bits(naive),
               "loss exact": _bits(exact), "no chance as tokens": int((naive < 1e-3).sum()),
               "largest leak": float(leak.max())}  # fmt: skip


def _by_tokens(model: Model, prompt: str) -> Floats:
    """The law of the next byte behind the prompt as it is tokenised: what prompting does."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    vocabulary = spelling_of(tokenizer).vocabulary
    ids = model.encode(prompt)
    logprobs = laws_along(model, ids, ids[:1])[0].double().exp()
    return vocabulary.by_next_byte(vocabulary.all, 0, logprobs.numpy()[vocabulary.ids])


def _bits(probs: Floats) -> float:
    return float(-np.log2(np.maximum(probs, 1e-12)).mean())


@check({"text": "", "model": "", "bits a byte": ".4f", "weight of the second": ".2f"})
def ensemble(
    windows: int = 8, size: int = 400, tolerance: float = 1e-4, other: str = "", seed: int = 0
) -> Iterator[Found]:
    """Two models of different vocabularies as one: the weight is found on every second window."""
    text = gutenberg()
    text = text[text.index(STORIES) : text.index(NEXT)]
    drawn, found = random.Random(seed), []
    models = [load("float32"), stories15m() if not other else lengthwise.load(other)]
    for _ in range(windows):
        start = text.index("\n\n", drawn.randrange(len(text) - 5000)) + 2
        data = " ".join(text[start : start + 2 * size].split()).encode()[:size]
        data = data.decode(errors="ignore").encode()
        found.append([_along(model, data, tolerance) for model in models])
    names = ["SmolLM2-135M-Instruct", "stories15M" if not other else models[1].name]
    for half, every in (("calibration", found[::2]), ("held out", found[1::2])):
        one, two = (np.concatenate([pair[number] for pair in every]) for number in (0, 1))
        losses = [_bits((1 - w) * one + w * two) for w in WEIGHTS]
        if half == "calibration":
            best = int(np.argmin(losses))
        for name, number in zip((*names, "both"), (0, -1, best), strict=True):
            yield {"text": half, "model": name, "bits a byte": losses[number],
                   "weight of the second": WEIGHTS[number]}  # fmt: skip
    single = min(losses[0], losses[-1])
    yield Note(bytes=len(one), lower=round(single - losses[best], 4),
               share=f"{1 - losses[best] / single:.2%}")  # fmt: skip


def _along(model: Model, data: bytes, tolerance: float) -> Floats:
    """Probability of each byte of a text behind those before it."""
    context = [FIRST] if model.name.startswith("SmolLM2") else None
    reader = model.bytes("", context=context, tolerance=tolerance)
    return np.array([math.exp(reader.feed_byte(byte)) for byte in data])
