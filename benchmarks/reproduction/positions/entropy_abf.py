"""Entropy-aware ABF: the loss after a few steps of tuning, and the entropy that it holds steady.

`entropy_abf` tunes the tiny model of `lengthened` for 20, 50 and 100 steps on rows of 1,024 tokens,
under PI, ABF and ABF with the factor. `entropy` reads a text with the embedded model and measures
how evenly queries attend: nats of the attention of a query, a mean over heads, over the layers from
the third on, and over 64 queries that end at a position.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, Workbench, check, load
from benchmarks.reproduction.positions import lengthened
from torch import Tensor

from lengthwise.methods.positions.entropy_abf import EntropyABF

FIRST, QUERIES = 2, 64


@check({"tuned under": "", "recipe": "", "steps": "d", "256": ".3f", "512": ".3f", "1024": ".3f",
        "above at 512": ".3f", "above at 1024": ".3f"})  # fmt: skip
def entropy_abf(
    folder: Path, base: int = lengthened.STEPS, steps: tuple[int, ...] = (20, 50, 100)
) -> Iterator[Found]:
    """PI, ABF and ABF with the factor after the same few steps."""
    rows, ids = lengthened.prepare(folder), lengthened.held_out(folder)
    untuned = lengthened.opened(lengthened.base(folder, rows, base))
    trained = lengthened.losses(untuned, ids)["256"]
    own = f"entropy_abf(base=none, trained={lengthened.TRAINED})"
    ways: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("pi", "full", {"name": "pi", "factor": 4}),
        ("abf", "full", {"name": "abf"}),
        ("entropy_abf", own, {"name": "entropy_abf", "trained": lengthened.TRAINED}),
    )
    for count in (0, *steps):
        for name, recipe, positions in ways:
            if count:
                model = lengthened.opened(
                    lengthened.tuned(folder, name, rows[1024], count, positions)
                )
            else:
                model, recipe = untuned, "pi(factor=4)" if name == "pi" else name
            found = lengthened.losses(model, ids, recipe)
            above = {f"above at {n}": round(found[n] - trained, 4) for n in ("512", "1024")}
            yield {"tuned under": name, "recipe": f"`{recipe}`", "steps": count, **found, **above}


@check({"logits": "", "512": ".3f", "1024": ".3f", "2048": ".3f"})
def entropy(trained: int = 512, ends: tuple[int, ...] = (512, 1024, 2048)) -> Iterator[Found]:
    """Nats of the attention of queries that end at each position, without and with the factor."""
    bench = Workbench(load("float32"))
    ids = bench.document()[: max(ends)]
    for name, method in (
        ("as they are", None),
        (f"of entropy_abf(base=none, trained={trained})", EntropyABF(base=None, trained=trained)),
    ):
        watch = _Watch(bench, method, ends)
        index = torch.arange(len(ids))
        bench.model.forward(torch.tensor(ids), index, watch, index[-1:])
        found = torch.stack(watch.found[FIRST:]).mean(0)
        values = zip(ends, found.tolist(), strict=True)
        yield {"logits": name, **{str(end): round(value, 4) for end, value in values}}


class _Watch:
    """Plain attention that notes the entropy of some queries. found: by layer, float32 `[ends]`."""

    def __init__(self, bench: Workbench, method: EntropyABF | None, ends: tuple[int, ...]) -> None:
        self.model, self.ends, self.found = bench.model, ends, list[Tensor]()
        self.scale = None if method is None else method.query_scale(bench.model)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope = self.model.layers[layer], self.model.rope
        assert facts.layout is not None and rope is not None
        index = torch.arange(query.shape[1])
        if self.scale is not None and self.scale.of(facts) is not None:
            query = self.scale(query, index)
        angles = rope.angles(facts.layout, facts.rotary_type, index)
        query, key = (facts.layout.rotate(x, angles) for x in (query, key))
        group = facts.num_heads // facts.num_kv_heads
        out = torch.empty(facts.num_heads, len(index), value.shape[-1], dtype=value.dtype)
        entropies = torch.zeros(len(self.ends))
        for head in range(facts.num_heads):
            scores = query[head] @ key[head // group].T * facts.scaling
            scores.masked_fill_(index[:, None] < index, -math.inf)
            weights = scores.softmax(-1)
            out[head] = weights @ value[head // group]
            each = torch.special.entr(weights).sum(-1)
            for place, end in enumerate(self.ends):
                entropies[place] += each[end - QUERIES : end].mean() / facts.num_heads
        self.found.append(entropies)
        return out
