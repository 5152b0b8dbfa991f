"""Tokens a round of chains and trees that four fifths of the model's layers draw, four levels deep.

Three prompts of 64 new tokens at temperature 0.8, top-p 0.95, in float32, everything drawn is
verified; greedy as well, where every text is that of plain decoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.reproduction.harness import Found, Row, check, load

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.methods.drafting.layers import Layers
from lengthwise.methods.drafting.rsd import RSD, RSDDrafter
from lengthwise.models.adapted_model import AdaptedModel

SAMPLING = Sampling(0.8, top_p=0.95, seed=1)
NEW = 64
PROMPTS = (
    "List eight facts about the sea.",
    "Write a Python function that merges two sorted lists, and explain it.",
    "Tell me a short story about a lighthouse keeper.",
)
SHAPES = {
    "chain of 4": RSD(width=1),
    "RSD-S, width 2": RSD(width=2),
    "RSD-S, width 4": RSD(width=4),
    "RSD-C, 2, 2, 1, 1": RSD(kind="constant", branching="2,2,1,1"),
    "RSD-C, 4, 1, 1, 1": RSD(kind="constant", branching="4,1,1,1"),
}


@check({"tree": "", "sampled": ".2f", "greedy": ".2f"})
def rsd() -> Iterator[Found]:
    """Tokens a round (guesses a round) by shape."""
    model = load("float32")
    prompts = [model.encode([{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    kinds = {"sampled": SAMPLING, "greedy": Sampling()}
    for name, options in SHAPES.items():
        row: Row = {"tree": name}
        for kind, sampling in kinds.items():
            costs = []
            for ids in prompts:
                drafted = generate(model.adapted, ids, options, sampling)
                if kind == "greedy":
                    plain = generate(model.adapted, ids, None, sampling)
                    if drafted.output != plain.output:
                        raise RuntimeError(f"{name}: the text is not that of plain decoding")
                costs.append(drafted.metrics)
            steps = sum(metrics.steps for metrics in costs)
            row[kind] = {
                "tokens a round": round(sum(metrics.decoded for metrics in costs) / steps, 2),
                "guesses a round": f"{sum(metrics.drafted for metrics in costs) / steps:.1f}",
            }
        yield row


def generate(
    model: AdaptedModel, ids: Sequence[int], options: RSD | None, how: Sampling
) -> Request:
    def start() -> RSDDrafter:
        assert options is not None
        return RSDDrafter(options, Layers().start_drafter(model))

    sequence = Context(model, Plan(drafters=(start,) if options is not None else ()))
    request = loop.begin(sequence, how, NEW, ())
    loop.start(request, loop.prefill(sequence, ids))
    for _ in loop.run(request, Fixed()):
        pass
    assert not request.metrics.notes, request.metrics.notes
    return request
