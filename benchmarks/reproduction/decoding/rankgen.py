"""RankGen at little size: a ranker trained on books, and the samples that it chooses.

Eighteen books of Project Gutenberg. The last tenth of each is held out, and so are its prefixes.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, Note, check, load

from lengthwise.models.embedded import cache_dir
from lengthwise.retrieval.ranker import BiEncoder, Shape, load_ranker, save_ranker
from lengthwise.training.ranker import Library, Pair, Settings, fit, library, negatives, ranks_in

_TITLE = re.compile(r"^\[(?:The King James Bible|[^\n]*\bby [^\n]*)\]$", re.M)
SHAPE = Shape(prefix=128, suffix=32)
DTYPE = "float32"


def kept() -> Path:
    """Where the ranker lies that the first check trains and the second one asks."""
    return cache_dir() / "rankgen-gutenberg-1.ranker"


@cache
def books() -> list[str]:
    """The books, lines of a paragraph joined."""
    text = gutenberg()
    starts = [found.start() for found in _TITLE.finditer(text)]
    parts = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [re.sub(r"(?<!\n)\n(?!\n)", " ", part) for part in parts]


@check({
    "negatives": "", "same book": ".3f", "mean place": ".2f", "other books": ".3f",
    "against written": ".3f",
})  # fmt: skip
def ranks(steps: int = 400, generated: int = 128, count: int = 400) -> Iterator[Found]:
    """The share of prefixes whose true continuation is first, and its mean place, among ten others
    of the same book; the share among ten of other books; and the share where it stands before what
    the model wrote there (nucleus, 0.9). The last ranker is kept for the other checks."""
    model = load(DTYPE)
    data = library(model, books(), SHAPE)
    wrote = negatives(model, data.train, generated, Random(0))
    held = negatives(model, data.held, max(1, generated // 2), Random(1))
    settings = Settings(steps=steps, generated=generated)
    for name, written, in_book in (
        ("random", [], False), ("in-book", [], True), ("in-book and generative", wrote, True),
    ):  # fmt: skip
        ranker, _, seconds = fit(model, data.train, written, SHAPE, settings, in_book=in_book)
        yield {"negatives": name, **_found(ranker, data, held, count)}
        yield Note({f"{name}: seconds": round(seconds)})
        save_ranker(kept(), ranker)
    chance = {"same book": 1 / 11, "mean place": 6.0, "other books": 1 / 11, "against written": 0.5}
    yield {"negatives": "(chance)", **chance}


def _found(ranker: BiEncoder, data: Library, held: Sequence[Pair], count: int) -> dict[str, float]:
    same = ranks_in(ranker, data.held, count)
    other = ranks_in(ranker, data.held, count, elsewhere=True)
    before = [ranker.scores(each.prefix, [each.suffix, each.written or []]) for each in held]
    return {
        "same book": same.first, "mean place": same.mean, "other books": other.first,
        "against written": statistics.fmean(a > b for a, b in before),
    }  # fmt: skip


@check({"texts": "", "score": ".3f", "repeated 4-grams": ".4f", "distinct words": ".3f",
        "loss": ".3f"})  # fmt: skip
def rankgen(
    prefixes: int = 24, new: int = 60, samples: int = 10, beam: int = 2, tokens: int = 20
) -> Iterator[Found]:
    """Texts behind held-out prefixes: the ranker's score, the share of 4-grams that the prefix or
    the text has had before, distinct words of all, and the model's own nats a token."""
    model, ranker = load(DTYPE), load_ranker(kept())
    data = library(model, books(), replace(SHAPE, suffix=new))
    chance = Random(2)
    pairs = [chance.choice(data.held).draw(1, chance)[0] for _ in range(prefixes)]
    path = kept()
    ways = {
        "greedy": None,
        "a nucleus sample (0.9)": "rankgen(beam=1, samples=1)",
        f"best of {samples}": f"rankgen(path={path}, beam=1, samples={samples}, tokens=0)",
        f"beam {beam}, {samples} of {tokens} tokens":
            f"rankgen(path={path}, beam={beam}, samples={samples}, tokens={tokens})",
    }  # fmt: skip
    for name, recipe in ways.items():
        texts = [
            list(model.generate(pair.prefix, recipe or "full", max_new_tokens=new, stop_ids=(),
                                seed=number).token_ids)
            for number, pair in enumerate(pairs)
        ]  # fmt: skip
        yield {"texts": name, **_told(ranker, pairs, texts)}
    yield {"texts": "the book", **_told(ranker, pairs, [each.suffix for each in pairs])}


def _told(ranker: BiEncoder, pairs: Sequence[Pair], texts: Sequence[list[int]]) -> dict[str, float]:
    loaded = load(DTYPE)
    scores, again, losses, words = [], [], [], list[str]()
    for pair, ids in zip(pairs, texts, strict=True):
        scores += ranker.scores(pair.prefix, [ids])
        again.append(_repeated(pair.prefix, ids))
        assert loaded.tokenizer is not None
        words += str(loaded.tokenizer.decode(ids)).lower().split()
        (found,) = loaded.rank(pair.prefix, [ids])
        losses.append(-found.mean)
    return {
        "score": statistics.fmean(scores), "repeated 4-grams": statistics.fmean(again),
        "distinct words": len(set(words)) / len(words), "loss": statistics.fmean(losses),
    }  # fmt: skip


def _repeated(prefix: Sequence[int], ids: Sequence[int], n: int = 4) -> float:
    """Share of the n-grams of a text that stood in it or before it already."""
    whole = [*prefix, *ids]
    seen = {tuple(whole[at : at + n]) for at in range(len(prefix) - n + 1)}
    again = 0
    for at in range(len(prefix) - n + 1, len(whole) - n + 1):
        gram = tuple(whole[at : at + n])
        again += gram in seen
        seen.add(gram)
    return again / len(ids)
