"""Extensible Tokenization: losses of a piece behind the embeddings of what stands before it.

The encoder is a trained copy of the model's first 6 layers. A piece of 64 tokens stands behind 192
tokens, which are read as they are, as one embedding for every k tokens, or not at all. Trained with
k of 2, 4 and 8; 3, 6 and 16 were never seen. One thread; five minutes of it, and more if shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from benchmarks.reproduction.harness import Found, Note, check, load, reference
from benchmarks.reproduction.soft_contexts.training_text import Bench

from lengthwise.api.soft_context import ContextEncoder
from lengthwise.soft_contexts.base import Example
from lengthwise.soft_contexts.extensible import PIECES, Extensible
from lengthwise.training.soft import Settings


@check({"past": "", "k": "", "entries": "", "steps": "", "loss": ".3f"})
def extensible(
    layers: int = 6, ratios: str = "2,4,8", shown: tuple[int, ...] = (2, 3, 4, 6, 8, 16),
    steps: tuple[int, ...] = (50, 100, 150), batch: int = 2, lr: float = 5e-4, piece: int = 64,
    pieces: int = 4, held_out: int = 16, seed: int = 0,
) -> Iterator[Found]:  # fmt: skip
    """Loss of the last piece while pieces are trained, and at the end for each k."""
    bench = _bench(layers, ratios, max(steps), batch, lr, piece, pieces, seed)
    past, some = (pieces - 1) * piece, _examples(bench, piece, pieces, held_out)
    weights = sum(each.numel() for each in bench.encoder.parameters())
    yield Note(weights=weights, predicted=held_out * (piece - 1))
    yield {"past": "not read", "entries": 0, "loss": bench.loss(some, "without")}
    yield {"past": "read as tokens", "entries": past, "loss": bench.loss(some, "text")}
    for step in bench.trained(PIECES, steps):
        yield {"past": "embeddings", "k": 4, "entries": -(-past // 4), "steps": step,
               "loss": bench.loss(some)}  # fmt: skip
    for ratio in (each for each in shown if each != 4):
        rows = [replace(each, ratio=ratio) for each in some]
        yield {"past": "embeddings", "k": ratio, "entries": -(-past // ratio), "steps": max(steps),
               "loss": bench.loss(rows)}  # fmt: skip


@check({"past": "", "loss": ".3f"})
def control(
    layers: int = 6, ratios: str = "2,4,8", steps: int = 100, batch: int = 2, lr: float = 5e-4,
    piece: int = 64, pieces: int = 4, held_out: int = 16, seed: int = 0,
) -> Iterator[Found]:  # fmt: skip
    """What embeddings say of a past, and what any would: those of the next text's past instead."""
    bench = _bench(layers, ratios, steps, batch, lr, piece, pieces, seed)
    some = _examples(bench, piece, pieces, held_out)
    others = [
        replace(each, context=other.context)
        for each, other in zip(some, [*some[1:], some[0]], strict=True)
    ]
    yield {"past": "not read", "loss": bench.loss(some, "without")}
    assert list(bench.trained(PIECES, (steps,))) == [0, steps]
    yield {"past": "its embeddings", "loss": bench.loss(some)}
    yield {"past": "another past's embeddings", "loss": bench.loss(others)}


def _bench(
    layers: int, ratios: str, steps: int, batch: int, lr: float, piece: int, pieces: int, seed: int
) -> Bench:
    how = Extensible(layers=layers, ratios=ratios, piece=piece)
    settings = Settings(steps=steps, batch=batch, lr=lr, length=pieces * piece, seed=seed)
    return Bench(how, settings)


def _examples(bench: Bench, piece: int, pieces: int, count: int) -> list[Example]:
    """The last piece of held-out texts behind all pieces before it, k = 4."""
    assert bench.data.held is not None
    chance, past = Random(1), (pieces - 1) * piece
    texts = [bench.data.held.draw(pieces * piece, chance) for _ in range(count)]
    return [Example(each[:past], each[past:], ratio=4) for each in texts]


@check({"embeddings": "", "the text in the prompt": "", "largest difference": ".1e"})
def identity(tokens: int = 256, behind: int = 64) -> Iterator[Found]:
    """k = 1 and an encoder of the embedding layer alone, in float32."""
    model = load("fp32")
    ids = reference(model)[: tokens + behind]
    past, after = ids[:tokens], ids[tokens:]
    how = Extensible(layers=0)
    encoder = ContextEncoder(model, how.start(model.adapted), how, {})
    found = encoder.read(past, ratio=1).score(after)
    wanted = model.read(past).score(after)
    yield {"embeddings": round(float(found.mean()), 4),
           "the text in the prompt": round(float(wanted.mean()), 4),
           "largest difference": float((found - wanted).abs().max())}  # fmt: skip
