"""Rows as runs give them: full, a small one, one that is lost, one that copies, one refused."""

from __future__ import annotations

from typing import Any

from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.row import CompareRow

SCRIPT = "<script>alert('x')</script>"
ORIGIN = Origin({"cpu": "A <cpu>"}, {"lengthwise": "0.1"}, "abc1234", "lengthwise compare")


def row(recipe: str, **values: Any) -> CompareRow:
    measured: dict[str, Any] = {
        "length": 8192,
        "question": "What is <it>?",
        "answer": f"An answer of {recipe}",
        "agreement": 1.0,
        "kl": 0.0,
        "copy_loss": 0.1,
        "needle_loss": 1.0,
        "needle_by_depth": [(0.1, 1.0), (0.9, 1.0)],
        "loss_by_position": [(100, 3.0), (4000, 2.5), (8000, 2.4)],
        "ttft_s": 10.0,
        "tokens_per_s": 20.0,
        "kv_bytes": 100_000_000,
        "kv_peak_bytes": 110_000_000,
        "accepted_per_step": 1.0,
        "lossless": False,
        "max_new_tokens": 128,
        "answer_tokens": 128,
        "fidelity_tokens": 512,
    }
    return CompareRow(
        recipe=recipe, model="m", dtype="bfloat16", device="cpu", **(measured | values)
    )


def refused(recipe: str, reason: str, **values: Any) -> CompareRow:
    return CompareRow(
        recipe=recipe, model="m", dtype="bfloat16", device="cpu", refused=reason,
        **({"length": 8192, "question": "What is <it>?"} | values),
    )  # fmt: skip


FULL = row("full", lossless=True)
SMALL = row("snapkv(budget=25%)", agreement=0.95, kl=0.04, kv_bytes=25_000_000, tokens_per_s=40.0)
LOST = row("streaming(window=64)", agreement=0.99, needle_loss=9.0, kv_bytes=1_000_000)
COPYING = row("lookup", answer=SCRIPT + " & more " + "x" * 400, notes=("a <note>",))
REFUSED = refused("yarn + pi", f"two owners of a position {SCRIPT}")
ROWS = Comparison([FULL, SMALL, LOST, COPYING, REFUSED], "My <document>", 8192, ORIGIN)
