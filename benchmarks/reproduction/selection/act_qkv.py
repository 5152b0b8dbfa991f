"""ActQKV: what looks blocks up, and how layers share the budget, beside infllm at equal tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.selection.copying import (
    COLUMNS,
    LENGTH,
    plan_of,
    recent,
    rows,
    setting,
)

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import FULL, Plan
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.selection.act_qkv import ActQKV, DenseMemory
from lengthwise.methods.selection.infllm import InfLLM

# A quarter of a text of 2,048 tokens. What both read in any case is the same.
BUDGET = Budget(512)
SMALL = ActQKV(budget=BUDGET, window=128, init=32, query_block=128)
MEMORY = InfLLM(budget=BUDGET, window=128, init=32, query_block=128, block=32)


@check(COLUMNS)
def act_qkv(length: int = LENGTH, lists: int = 1) -> Iterator[Found]:
    """COPY and TEXT by what looks blocks up and by how layers share, beside InfLLM."""
    plans: dict[str, Plan | Method] = {
        "full attention": FULL,
        f"`{SMALL}`": SMALL,
        "the same, the mean query looks up (`probe=mean`)": replace(SMALL, probe="mean"),
        "the same, by dot products (`score=dot`)": replace(SMALL, score="dot"),
        "the same, all layers alike (`cutoff=false`)": replace(SMALL, cutoff=False),
        f"`{MEMORY}`": MEMORY,
        "only the most recent 512 tokens": recent(512),
    }
    for row in rows(plans, length, lists):
        yield {"what": row["what"], **{name: row[name] for name in COLUMNS if name != "what"}}


@check({"score": "", "least density": ".3f", "most": ".3f", "least share": ".3f", "most ": ".3f"})
def density(length: int = LENGTH) -> Iterator[Found]:
    """Densities of the layers at the end of the prompt, and the shares they come to."""
    model, probes = setting(length)
    for score in ("cosine", "dot"):
        method = replace(SMALL, score=score)
        sequence = Sequence(model, plan_of(method, length))
        prefill(sequence, probes.context)
        sequence.end_prefill()
        made = [g.selector for _, g in sequence.groups() if isinstance(g.selector, DenseMemory)]
        densities, shares = ([getattr(m, n) for m in made] for n in ("density", "share"))
        yield Note({f"layers {score}": len(made)})
        yield {
            "score": score, "least density": round(min(densities), 3),
            "most": round(max(densities), 3), "least share": round(min(shares), 3),
            "most ": round(max(shares), 3),
        }  # fmt: skip
