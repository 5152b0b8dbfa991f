"""Dolphin: memory tokens from which a frozen model says a text again, and what comes behind it.

The encoder is a trained copy of the model's first layers, the projector a linear layer. Restoration
is trained on texts of 32 tokens, 8 memory tokens each. One thread; half an hour or so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from benchmarks.reproduction.harness import Found, Note, check, load, reference
from benchmarks.reproduction.soft_contexts.training_text import Bench

from lengthwise.api.soft_context import ContextEncoder
from lengthwise.soft_contexts.dolphin import RESTORE, Dolphin
from lengthwise.training.soft import Settings


@check({"read before the text": "", "entries": "", "steps": "", "loss": ".3f"})
def dolphin(
    tokens: int = 8, layers: int = 8, length: int = 32, steps: tuple[int, ...] = (100, 200, 300),
    batch: int = 8, lr: float = 5e-4, held_out: int = 64, seed: int = 0,
) -> Iterator[Found]:  # fmt: skip
    """Loss of a text behind its memory tokens, while restoration is trained."""
    how = Dolphin(tokens=tokens, layers=layers)
    settings = Settings(steps=max(steps), batch=batch, lr=lr, length=length, seed=seed)
    bench = Bench(how, settings)
    some = bench.examples(RESTORE, held_out)
    weights = sum(each.numel() for each in bench.encoder.parameters())
    yield Note(weights=weights, predicted=held_out * (length - 1))
    yield {"read before the text": "nothing", "entries": 0, "loss": bench.loss(some, "without")}
    for step in bench.trained(RESTORE, steps):
        yield {"read before the text": "memory tokens", "entries": tokens, "steps": step,
               "loss": bench.loss(some)}  # fmt: skip
    yield {"read before the text": "the text itself", "entries": length,
           "loss": bench.loss(some, "text")}  # fmt: skip


@check({"read before the text": "", "loss": ".3f"})
def control(
    tokens: int = 8, layers: int = 8, length: int = 32, steps: int = 150, batch: int = 8,
    lr: float = 5e-4, held_out: int = 64, seed: int = 0,
) -> Iterator[Found]:  # fmt: skip
    """What memory tokens say of their text, and what any would: those of the next text instead."""
    how = Dolphin(tokens=tokens, layers=layers)
    settings = Settings(steps=steps, batch=batch, lr=lr, length=length, seed=seed)
    bench = Bench(how, settings)
    some = bench.examples(RESTORE, held_out)
    others = [
        replace(each, context=other.context)
        for each, other in zip(some, [*some[1:], some[0]], strict=True)
    ]
    yield {"read before the text": "nothing", "loss": bench.loss(some, "without")}
    assert list(bench.trained(RESTORE, (steps,))) == [0, steps]
    yield {"read before the text": "its memory tokens", "loss": bench.loss(some)}
    yield {"read before the text": "another text's memory tokens", "loss": bench.loss(others)}


@check({"memory tokens": "", "the text in the prompt": "", "largest difference": ".1e"})
def identity(tokens: int = 256, behind: int = 64) -> Iterator[Found]:
    """Identity projector, the model's embeddings as states, as many memory tokens as tokens."""
    model = load("fp32")
    ids = reference(model)[: tokens + behind]
    past, after = ids[:tokens], ids[tokens:]
    how = Dolphin(tokens=tokens, layers=0)
    encoder = how.start(model.adapted)
    encoder.memory.data = model.adapted.embed(torch.tensor(past)).clone()
    found = ContextEncoder(model, encoder, how, {}).read(past).score(after)
    wanted = model.read(past).score(after)
    yield {"memory tokens": round(float(found.mean()), 4),
           "the text in the prompt": round(float(wanted.mean()), 4),
           "largest difference": float((found - wanted).abs().max())}  # fmt: skip
