"""DuoAttention: heads by gate, by lot and the wrong way round, on a copy and on text.

COPY and TEXT are those of `selection/copying.py`, each under a plan that reads the prompt itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence as Seq
from contextlib import contextmanager

import torch
from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.selection.copying import COPY, TEXT, copy_and_text, setting

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import FULL, Plan
from lengthwise.methods import calibration
from lengthwise.methods.gates import KIND, Training, gates, retrieval, train_gates
from lengthwise.methods.retention.razor import choose_heads
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve

LENGTH = 2048
BYTES = "bytes of full"
Rows = Seq[Seq[float]]


@contextmanager
def gated(model: AdaptedModel, rows: Rows) -> Iterator[None]:
    """While it lasts, these gates stand in place of the model's own in the calibrations."""
    before = os.environ.get("LENGTHWISE_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LENGTHWISE_CACHE"] = folder
        try:
            calibration.save(KIND, model, {"gates": rows})
            yield
        finally:
            if before is None:
                del os.environ["LENGTHWISE_CACHE"]
            else:
                os.environ["LENGTHWISE_CACHE"] = before


def found_with(recipe: str, rows: Rows | None, length: int) -> tuple[Plan, float]:
    """The plan of a recipe under gates, and the share of bytes that it holds of a prompt."""
    model, probes = setting(length)
    if rows is None:
        plan = resolve(recipe, model)
    else:
        with gated(model, rows):
            plan = resolve(recipe, model)
    sequence = Sequence(model, plan)
    prefill(sequence, probes.context[: length // 2])
    sequence.end_prefill()
    # Beyond their windows only heads that keep everything grow.
    grown = sequence.nbytes() + (length - length // 2) * growing(sequence)
    return plan, round(grown / (length * model.bytes_per_token), 3)


def growing(sequence: Sequence) -> float:
    """Bytes that a token more takes, in heads that keep everything."""
    model, found = sequence.model, 0.0
    for layer, group in sequence.groups():
        if group.placement.window is None or group.selector is not None:
            heads = layer.facts.num_kv_heads if group.heads is None else len(group.heads)
            found += heads / layer.facts.num_kv_heads
    return found / len(model.layers) * model.bytes_per_token


@check({"recipe": "", COPY: ".3f", TEXT: ".3f", BYTES: ".1%"})
def duo(length: int = LENGTH, lists: int = 1) -> Iterator[Found]:
    """Half and a quarter of the heads by their gates, beside full attention and other choices."""
    model, _ = setting(length)
    own = gates(model)
    turned = [[1 - gate for gate in row] for row in own]
    chance = torch.rand(len(own), len(own[0]), generator=torch.Generator().manual_seed(0)).tolist()
    copied, text = copy_and_text(FULL, length, lists=lists)
    yield {"recipe": "`full`", COPY: copied, TEXT: text, BYTES: 1.0}
    for name, recipe, rows in (
        ("`duo`", "duo", None),
        ("`duo(heads=0.25)`", "duo(heads=0.25)", None),
        ("half of the heads, the smallest gates", "duo", turned),
        ("half of the heads, by lot", "duo", chance),
        ("`duo(heads=0)`: no head keeps everything", "duo(heads=0)", None),
    ):
        plan, share = found_with(recipe, rows, length)
        copied, text = copy_and_text(plan, length, lists=lists)
        yield {"recipe": name, COPY: copied, TEXT: text, BYTES: share}
    chosen = retrieval(own, model.layers, 0.5)
    flat = [gate for row in own for gate in row]
    yield Note(
        retrieval_heads={i: [n for n, each in enumerate(row) if each] for i, row in chosen.items()},
        gates=[[round(gate, 2) for gate in row] for row in own],
        above_half=sum(gate > 0.5 for gate in flat),
        below_tenth=sum(gate < 0.1 for gate in flat),
    )


@check({"steps": "", "rate": "", "mean gate": ".3f", COPY: ".3f"})
def steps(length: int = LENGTH) -> Iterator[Found]:
    """How long gates have to be trained: COPY of half of the heads after so many steps."""
    model, _ = setting(length)
    for count, rate in ((15, 0.2), (30, 0.1), (60, 0.05), (120, 0.02)):
        found = train_gates(model, Training(steps=count, rate=rate))
        plan, _ = found_with("duo", found["gates"], length)
        mean = sum(map(sum, found["gates"])) / sum(map(len, found["gates"]))
        copied, _ = copy_and_text(plan, length)
        yield {"steps": str(count), "rate": str(rate), "mean gate": mean, COPY: copied}


@check({"heads that look back on random tokens": "", "among the retrieval heads": ""})
def overlap() -> Iterator[Found]:
    """Of the 14 heads of RazorAttention, those that half and a quarter of the gates choose."""
    model, _ = setting(LENGTH)
    scores = calibration.retrieval_heads(model)
    echo, induction = (torch.tensor(scores[name]).flatten() for name in ("echo", "induction"))
    razor = set(choose_heads(echo, induction, 0.15).nonzero()[:, 0].tolist())
    for share in (0.5, 0.25):
        rows = retrieval(gates(model), model.layers, share)
        flat = [each for row in rows.values() for each in row]
        both = [head for head, each in enumerate(flat) if each and head in razor]
        yield {"heads that look back on random tokens": f"{len(razor)} of {len(flat)}",
               "among the retrieval heads": f"{len(both)} at {share:.0%} of the heads"}  # fmt: skip
