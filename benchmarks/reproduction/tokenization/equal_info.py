"""Equal-Info Windows against bytes, BPE and plain arithmetic coding, on the same rows of books.

M1 counts byte trigrams of the training rows (`ByteNGram`, order 2). M2 is a small Llama of WIDTH
channels; LAYERS differ so that bodies and embeddings come to about as many weights, but for 65,536
ids, whose embeddings alone are more. `equal.py` says what rows are. Losses in bits a byte.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence

import constriction
import numpy as np
import torch
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.tokenization import equal
from benchmarks.reproduction.tokenization.equal import Rows

from lengthwise.architectures.position_schemes import PositionSchemes, PositionSchemesConfig
from lengthwise.tokenization.byte_laws import ByteLaw, ByteNGram, FixedLaw, ModelLaw
from lengthwise.tokenization.equal_info import EqualInfo
from lengthwise.training.byte_models import Fit, bits_of_rows, fit_rows

WIDTH, BPE = 64, 1024
Texts = Sequence[bytes]


def windows(coder: EqualInfo) -> Callable[[Texts], Rows]:
    """What makes rows of windows of texts."""
    return lambda texts: [[coder.vocabulary, *coder.encode(t).tokens.tolist()] for t in texts]


def plain(law: ByteLaw) -> Callable[[Texts], Rows]:
    """What makes rows of one arithmetic code a text, never reset, in pieces of eight bits."""

    def row(text: bytes) -> list[int]:
        coder = constriction.stream.queue.RangeEncoder()
        for at, byte in enumerate(text):
            sums = np.array(law.cumulated(text[:at]), dtype=np.float64)
            coder.encode(byte, constriction.stream.model.Categorical(
                np.diff(sums) / sums[-1], perfect=False
            ))  # fmt: skip
        return [256, *coder.get_compressed().astype(">u4").tobytes()]

    return lambda texts: [row(text) for text in texts]


def zipped(texts: Texts) -> Rows:
    """Rows of gzip's bytes, each text by itself, without the header of ten bytes."""
    return [[256, *gzip.compress(text, 9, mtime=0)[10:]] for text in texts]


COLUMNS = {"tokens": "", "at equal": "", "weights": "d", "steps": "d", "FLOPs": ".3g",
           "bytes a token": ".2f", "bits a byte": ".3f", "uniform": ".3f"}  # fmt: skip
# How rows are made, ids, layers, and whether it is trained at equal FLOPs too.
Way = tuple[Callable[[Texts], Rows], int, int, bool]


def learnable(train: Texts, law: ByteLaw) -> dict[str, Way]:
    """Bytes, BPE and windows of 16 bits."""
    tokenizer = equal.bpe(train, BPE)
    return {
        "bytes": (equal.byte_rows, 256, 6, False),
        "BPE": (lambda texts: equal.bpe_rows(tokenizer, texts), BPE, 5, True),
        "EqualInfo, N=8": (windows(EqualInfo(law, 16, 256)), 256, 6, True),
    }


@check(COLUMNS)
def equal_info(
    steps: int = 200, batch: int = 8, train_on: int = 3000, held: int = 150
) -> Iterator[Found]:  # fmt: skip
    """Bits a byte of M2 at equal bytes and at the FLOPs of the model over bytes."""
    train, test = equal.some(train_on, held)
    law = ByteNGram.learn(b"".join(train))
    static = FixedLaw({byte: 1 + count for byte, count in _counted(train).items()})
    ways = learnable(train, law) | {
        "arithmetic code": (plain(law), 256, 6, False),
        "static arithmetic code": (plain(static), 256, 6, False),
        "gzip": (zipped, 256, 6, False),
    }
    how = Fit(steps=steps, batch=batch)
    budget = _budget(train, how)
    for name, way in ways.items():
        for at in ("bytes", "FLOPs") if way[3] else ("bytes",):
            yield _trained(name, way, train, test, how, budget if at == "FLOPs" else 0.0)


@check({**COLUMNS, "CPU seconds": ".0f"})
def seconds(
    seconds: float = 60.0, batch: int = 8, train_on: int = 3000, held: int = 150
) -> Iterator[Found]:  # fmt: skip
    """The same at equal seconds of training on one core, for a machine that does nothing else;
    what cuts a text into tokens is not counted."""
    train, test = equal.some(train_on, held)
    law = ByteNGram.learn(b"".join(train))
    wide = (windows(EqualInfo(law, 16, 1 << 16)), 1 << 16, 6, False)
    for name, way in (learnable(train, law) | {"EqualInfo, N=16": wide}).items():
        read, ids, layers, _ = way
        rows, model = read(train), equal.llama(ids + 1, WIDTH, layers)
        a_step = equal.row_flops(model, rows[:batch]) * batch

        def fit(steps: int) -> None:
            nonlocal model
            model = equal.llama(ids + 1, WIDTH, layers)  # noqa: B023
            fit_rows(model, rows, Fit(steps=steps, batch=batch))  # noqa: B023

        count, spent = equal.in_seconds(seconds, fit)
        own, size = read(test), sum(map(len, test))
        tokens = sum(map(len, own)) - len(own)
        yield {
            "tokens": name, "at equal": "seconds", "weights": equal.parameters(model),
            "steps": count, "FLOPs": a_step * count, "bytes a token": size / tokens,
            "bits a byte": bits_of_rows(model, own) / size,
            "uniform": equal.bits_of_uniform(tokens, ids, size), "CPU seconds": spent,
        }  # fmt: skip


def _budget(train: Texts, how: Fit) -> float:
    """FLOPs of training the model over bytes."""
    rows = equal.byte_rows(train[: how.batch])
    return equal.row_flops(equal.llama(257, WIDTH, 6), rows) * how.batch * how.steps


def _trained(
    name: str, way: Way, train: Texts, test: Texts, how: Fit, budget: float
) -> dict[str, object]:
    rows, ids, layers, _ = way
    size, own = sum(map(len, test)), rows(test)
    tokens = sum(map(len, own)) - len(own)
    found = equal.trial(
        lambda: equal.llama(ids + 1, WIDTH, layers), rows(train), own, size, how, budget
    )
    return {
        "tokens": name, "at equal": "FLOPs" if budget else "bytes", "weights": found.parameters,
        "steps": found.steps, "FLOPs": found.flops, "bytes a token": size / tokens,
        "bits a byte": found.bits, "uniform": equal.bits_of_uniform(tokens, ids, size),
    }  # fmt: skip


@check({"law": "", "window": "d", "bits a byte": ".3f", "ratio": ".2f", "round trip": "",
        "bytes": "d"})  # fmt: skip
def laws(size: int = 1_000_000, model_size: int = 3000, steps: int = 150) -> Iterator[Found]:
    """How far windows compress a text, by M1 and bits of a window; every text comes back."""
    train, test = equal.rows()
    text = b"".join(train)
    held = b"".join(test)
    for order in (0, 1, 2, 3):
        yield _compressed(f"byte n-gram, order {order}", ByteNGram.learn(text, order), 16, held)
    law = ByteNGram.learn(text)
    for bits in (32, 64, 128):
        yield _compressed("byte n-gram, order 2", law, bits, held)
    yield _compressed("byte n-gram, order 2, trained text", law, 16, text[:size])
    torch.manual_seed(0)
    model = PositionSchemes(PositionSchemesConfig(
        scheme="rotary", vocab_size=257, hidden_size=WIDTH, intermediate_size=256,
        num_hidden_layers=2, num_attention_heads=2,
    ))  # fmt: skip
    # Windows are short, so it learns short rows from where a window may begin.
    short = [[256, *text[at : at + 24]] for at in range(0, min(len(text), 1_200_000), 24)]
    fit_rows(model, short, Fit(steps=steps, batch=128))
    yield _compressed("tiny decoder", ModelLaw(model), 16, held[:model_size])
    yield _compressed("byte n-gram, order 2", law, 16, held[:model_size])


def _compressed(name: str, law: ByteLaw, bits: int, text: bytes) -> dict[str, object]:
    coder = EqualInfo(law, bits, 256)
    coded = coder.encode(text)
    spent = len(coded.tokens) * 8 / len(text)
    return {
        "law": name, "window": bits, "bits a byte": spent, "ratio": 8 / spent,
        "round trip": "exact" if coder.decode(coded) == text else "lost", "bytes": len(text),
    }  # fmt: skip


def _counted(texts: Texts) -> dict[int, int]:
    found = np.bincount(np.frombuffer(b"".join(texts), dtype=np.uint8), minlength=256)
    return dict(enumerate(found.tolist()))


__all__ = ["equal_info", "laws", "seconds"]
