"""RAPID: the model drafting for itself from passages of its context, and what its residuals say."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import partial
from typing import Any

import torch
from benchmarks.reproduction.drafting.decoding import decode
from benchmarks.reproduction.drafting.prose import HEAD, NEXT, PASSAGE, QUESTION
from benchmarks.reproduction.harness import Found, Note, check, encode, load, reference
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.methods.drafting.rapid import Rapid, pulled
from lengthwise.retrieval.passages import bm25

CONTEXT = 2000
GREEDY, SAMPLED = "equal to plain", "equal to plain, same seed"
SETTINGS = {
    "plain, chains of 10": Rapid(), "plain, chains of 4, 2 wide": Rapid(gamma=4, width=2),
    **{f"augmented, eta {eta:g}": Rapid(mode="augmented", eta=eta)
       for eta in (0.0, 5.0, 10.0, 20.0)},
}  # fmt: skip


@check({"mode": "", "greedy": ".2f", GREEDY: "", "sampled": ".2f", SAMPLED: ""})
def rapid() -> Iterator[Found]:
    """A passage stands in the middle of a reference that has nothing to do with it."""
    model = load("float32")
    head, passage = encode(model, HEAD), encode(model, f"\n\n{PASSAGE}\n\n")
    asked = encode(model, f"\n\n{QUESTION}{NEXT}")
    body = reference(model)[: CONTEXT - len(head) - len(passage) - len(asked)]
    middle = len(body) // 2
    prompt = head + body[:middle] + passage + body[middle:] + asked
    base = Context(model.adapted, Plan())
    logits = loop.prefill(base, prompt)
    short = Rapid().shortened(prompt, bm25)
    found = SequenceMatcher(None, passage, short, False).find_longest_match().size
    yield Note(prompt=len(prompt), read=len(short), passage=len(passage), of_it_read=found)
    drawing: dict[str, Any] = {"temperature": 0.7, "top_p": 0.95, "seed": 1}
    plain, plain_sampled = decode(base, logits).output, decode(base, logits, **drawing).output
    for name, options in SETTINGS.items():
        start = partial(options.start_drafter, model.adapted)
        verifier = None
        if name.startswith("augmented"):
            verifier = partial(options.start_verifier, model.adapted)
        greedy = decode(base, logits, start, verifier=verifier)
        drawn = decode(base, logits, start, verifier=verifier, **drawing)
        same: bool | str = drawn.output == plain_sampled
        yield {
            "mode": name, "greedy": round(greedy.metrics.accepted_per_step, 2),
            GREEDY: greedy.output == plain, "sampled": round(drawn.metrics.accepted_per_step, 2),
            # At eta 0 the same law is drawn from with other noise.
            SAMPLED: same if name != "augmented, eta 0" else "drawn anew",
        }  # fmt: skip


DISTANCES = ("accepted", "p_hat to p", "the paper's residual, to p", "to p_hat", "ours, to p_hat")


@check({"mask": "", "eta": "g", **dict.fromkeys(DISTANCES, ".2f")})
def distances(pairs: int = 200) -> Iterator[Found]:
    """Means over random pairs of distributions of five tokens: acceptance, and total variation of
    what is said to p and to p_hat, with the residual of the paper and with ours."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(pairs, 2, 5, generator=generator, dtype=torch.float64)
    cases = [(eta, mask) for mask in ("p_hat", "q") for eta in (0.0, 1.0, 5.0, 10.0, 20.0)]
    for eta, mask in cases:
        rows = []
        for p, q in logits.softmax(-1):
            target = pulled(p, q, eta, mask)
            accepted = torch.minimum(q, target)
            left = 1 - accepted.sum()
            theirs = accepted + left * _norm(torch.maximum(p - target, p - q).clamp_min(0))
            ours = accepted + left * _norm((target - q).clamp_min(0))
            rows.append([
                accepted.sum(), _tv(target, p), _tv(theirs, p), _tv(theirs, target),
                _tv(ours, target),
            ])  # fmt: skip
        mean = torch.tensor(rows, dtype=torch.float64).mean(0)
        figures = {n: round(float(v), 4) for n, v in zip(DISTANCES, mean, strict=True)}
        yield {"mask": mask, "eta": eta, **figures}


def _norm(mass: Tensor) -> Tensor:
    return mass / mass.sum() if mass.sum() > 0 else mass


def _tv(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().sum() / 2
