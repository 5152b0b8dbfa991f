"""RazorAttention: heads by score or by lot, with compensation and without: see copying.py."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence as Seq
from contextlib import contextmanager
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.retention.copying import AFTER, LENGTH, Bench, bench, means
from torch import Tensor

from lengthwise.methods import calibration
from lengthwise.methods.base import Method
from lengthwise.methods.retention.razor import Razor, choose_heads
from lengthwise.models.adapted_model import AdaptedModel

HEADS, CHOSEN = 90, 14
BUFFER = {"buffer": 256, "share": 0.0}


@contextmanager
def scored(model: AdaptedModel, scores: Mapping[str, Any]) -> Iterator[None]:
    """While it lasts, scores of heads stand in place of the model's own in the calibrations."""
    before = os.environ.get("LENGTHWISE_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LENGTHWISE_CACHE"] = folder
        try:
            calibration.save("razor", model, dict(scores))
            yield
        finally:
            if before is None:
                del os.environ["LENGTHWISE_CACHE"]
            else:
                os.environ["LENGTHWISE_CACHE"] = before


def scores_of(model: AdaptedModel, heads: Seq[int]) -> dict[str, Any]:
    """Scores by which just these key heads are chosen; counted over all layers."""
    flat = torch.zeros(HEADS)
    flat[list(heads)] = 1.0
    rows = [row.tolist() for row in flat.split([layer.num_kv_heads for layer in model.layers])]
    return {"echo": rows, "induction": rows}


def by_lot() -> list[int]:
    order = torch.randperm(HEADS, generator=torch.Generator().manual_seed(0))
    return [int(head) for head in order[:CHOSEN]]


def texts(chosen: Bench, methods: Mapping[str, Method | None]) -> dict[str, float]:
    """Mean loss of the 256 tokens after a prompt, at two places."""
    found: dict[str, list[float]] = {name: [] for name in methods}
    for start in (0, 20_000):
        ids = chosen.document()[start : start + LENGTH + AFTER]
        read = chosen.read(ids[:LENGTH])
        for name, method in methods.items():
            found[name].append(chosen.after(read, method, ids[LENGTH:], 0))
    return {name: means(losses)["mean"] for name, losses in found.items()}


@check({"recipe": "", "copy": ".3f", "text": ".3f"})
def razor() -> Iterator[Found]:
    """15% of the heads by score or by lot, the rest with 256 tokens, compensated or not."""
    chosen = bench()
    best: dict[str, Method | None] = {
        "`full`": None,
        "`razor(buffer=256, share=0, compensate=false)`": Razor(**BUFFER, compensate=False),  # type: ignore[arg-type]
        "`razor(buffer=256, share=0)`": Razor(**BUFFER),  # type: ignore[arg-type]
    }
    lot: dict[str, Method | None] = {
        "heads by lot, no compensation": Razor(**BUFFER, compensate=False),  # type: ignore[arg-type]
        "heads by lot": Razor(**BUFFER),  # type: ignore[arg-type]
    }
    yield from _both(chosen, best)
    with scored(chosen.model, scores_of(chosen.model, by_lot())):
        yield from _both(chosen, lot)
    read = chosen.read(chosen.document()[:LENGTH])
    sequence = read.fork(chosen.plan(Razor(**BUFFER)))  # type: ignore[arg-type]
    sequence.end_prefill()
    share = sequence.nbytes() / (LENGTH * chosen.model.bytes_per_token)
    yield Note(share_of_bytes_held=round(share, 3))


def _both(chosen: Bench, methods: Mapping[str, Method | None]) -> Iterator[Found]:
    copies, after = chosen.copies(methods, 0), texts(chosen, methods)
    for name in methods:
        yield {"recipe": name, "copy": copies[name]["mean"], "text": after[name]}


COPY = "copy over 7,936 tokens, mean of three lists"


@check({"recipe": "", COPY: ".2f"})
def paper() -> Iterator[Found]:
    """The paper's buffer of 4,000 tokens, which takes a longer text; beside a small one."""
    methods: dict[str, Method | None] = {
        "`full`": None, "`razor`": Razor(), "`razor(compensate=false)`": Razor(compensate=False),
        "`razor(buffer=256, compensate=false)`: buffers of 1,588 tokens":
            Razor(buffer=256, compensate=False),
    }  # fmt: skip
    for name, found in bench().copies(methods, 0, length=7_936).items():
        yield {"recipe": name, COPY: found}


FOUND = "copy with the heads found"


@check({"random tokens": "", "induction in 14 of 90": ".1%", FOUND: ".3f"})
def heads() -> Iterator[Found]:
    """Heads found on repeats of several lengths: how concentrated scores are, what they copy."""
    chosen = bench()
    for length, repeats in ((512, 4), (1000, 4), (2047, 4), (2500, 2)):
        scores = calibration.calibrate_retrieval_heads(chosen.model, length=length, repeats=repeats)
        echo, induction = (torch.tensor(scores[name]).flatten() for name in ("echo", "induction"))
        name = f"{length:,}, {repeats} times"
        picked = choose_heads(echo, induction, 0.15).nonzero()[:, 0].tolist()
        yield Note({name: {"heads": picked, "echo in 14": round(share(echo), 3)}})
        with scored(chosen.model, scores):
            copies = chosen.copies({name: Razor(**BUFFER)}, 0)  # type: ignore[arg-type]
        yield {"random tokens": name, "induction in 14 of 90": round(share(induction), 3),
               FOUND: copies[name]["mean"]}  # fmt: skip


def share(scores: Tensor) -> float:
    """What part of all scores the best CHOSEN heads have."""
    return float(scores.topk(CHOSEN).values.sum() / scores.sum())
