"""LongGen without training: where the layers stand that keep everything.

COPY and TEXT are those of `selection/copying.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.retention.duo import BYTES, LENGTH, growing
from benchmarks.reproduction.selection.copying import COPY, TEXT, copy_and_text, setting

from lengthwise.engine.kv_cache.head_policy import HeadPolicy, sinks_and_recent
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import FULL, Plan
from lengthwise.recipes import resolve

SINKS, WINDOW = 64, 256


def only(full: range, layers: int) -> Plan:
    """A plan under which some layers keep everything and the others first and latest tokens."""
    policy = (HeadPolicy(placement=sinks_and_recent(SINKS, WINDOW)),)
    return replace(
        FULL, text="layers", head_table={n: policy for n in range(layers) if n not in full}
    )


def share(plan: Plan, length: int) -> float:
    """The share of bytes that a plan holds of a prompt."""
    model, probes = setting(length)
    sequence = Sequence(model, plan)
    prefill(sequence, probes.context[: length // 2])
    sequence.end_prefill()
    grown = sequence.nbytes() + (length - length // 2) * growing(sequence)
    return round(grown / (length * model.bytes_per_token), 3)


@check({"layers that keep everything": "", COPY: ".3f", TEXT: ".3f", BYTES: ".1%"})
def longgen(length: int = LENGTH) -> Iterator[Found]:
    """A third of the layers in the middle, below and above, half of them, all and none."""
    model, _ = setting(length)
    count = len(model.layers)
    third = count // 3
    recipe = f"longgen(window={WINDOW})"
    for name, plan in (
        ("all: `full`", FULL),
        (f"the middle third: `{recipe}`", resolve(recipe, model)),
        ("the first third", only(range(third), count)),
        ("the last third", only(range(count - third, count), count)),
        ("the middle two thirds: `longgen(full=0.67)`",
         resolve(f"longgen(full=0.67, window={WINDOW})", model)),
        ("none: `longgen(full=0)`", resolve(f"longgen(full=0, window={WINDOW})", model)),
    ):  # fmt: skip
        copied, text = copy_and_text(plan, length)
        yield {"layers that keep everything": name, COPY: copied, TEXT: text,
               BYTES: share(plan, length)}  # fmt: skip
