"""Runs that a report has to survive: one recipe or twenty, long names, questions, odd texts."""

from __future__ import annotations

import math
from typing import Any

from bs4 import BeautifulSoup

from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.row import CompareRow
from tests.evaluation.measured_rows import refused

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)> ${title} {{ 7*7 }} {% raw %}"
LONG = "a_method_of_a_long_name(budget=25%, window=32, kernel=31, x=1)"
ARABIC = "هذا جواب طويل عن النص، ويُقرأ من اليمين إلى اليسار (full)."
CHINESE = "这是一个关于文本的回答，没有任何空格，所以它必须能够在任何字符之后换行。" * 3
UNBROKEN = "x" * 900
CONTROL = "a\x00b\x1b[31mc\udce4\u202ed"
ORIGIN = Origin({"cpu": "A <cpu>"}, {"lengthwise": "0.1"}, "abc1234", "lengthwise compare x.pdf")


def row(recipe: str, number: int = 0, **values: Any) -> CompareRow:
    """A row whose figures hang on `number` as those of a run do: none equal, all near."""
    measured: dict[str, Any] = {
        "length": 8192,
        "question": "What is <it>?",
        "answer": f"An answer of {recipe}",
        "agreement": 1.0 - 0.011 * (number % 9),
        "kl": 0.007 * number,
        "copy_loss": 0.1 + 0.3 * (number % 5),
        "needle_loss": 1.0 + 0.1 * (number % 4),
        "needle_by_depth": [(0.1, 1.0), (0.9, 1.0)],
        "loss_by_position": [
            (512 * i + 256, 3.2 - 0.05 * i + 0.02 * (number % 7) * math.sin(i + number))
            for i in range(16)
        ],
        "ttft_s": 10.0 + 0.37 * (number % 6),
        "tokens_per_s": 20.0 + 1.7 * (number % 8),
        "kv_bytes": 216_000_000 - 9_000_000 * (number % 11),
        "kv_peak_bytes": 216_000_000,
        "accepted_per_step": 1.0 + 0.1 * (number % 3),
        "lossless": number == 0,
    }
    return CompareRow(
        recipe=recipe, model="m", dtype="bfloat16", device="cpu", **(measured | values)
    )


def _run(*rows: CompareRow, document: str = "My <document>") -> Comparison:
    return Comparison(rows, document, 8192, ORIGIN)


_BARE = {
    "agreement": None, "kl": math.nan, "copy_loss": math.inf, "needle_loss": None,
    "needle_by_depth": None, "loss_by_position": [(100, math.nan), (200, 2.0)],
    "ttft_s": None, "tokens_per_s": None, "kv_bytes": None, "kv_peak_bytes": None,
    "accepted_per_step": None, "lossless": None, "answer": None,
}  # fmt: skip
QUESTIONS = ("What is it about?", "Who signed it, where, when and before which witnesses?", ARABIC)

CASES: dict[str, Comparison] = {
    "none": Comparison(),
    "one": _run(row("full")),
    "twenty": _run(
        row("full"),
        *(row(f"method_{i}(budget={i}%) + lookup", i) for i in range(1, 20)),
        refused("yarn + pi", "two owners of a position"),
    ),
    "long": _run(
        row("full"),
        row(LONG, 1),
        row(f"{LONG} + {LONG}", 2, answer=UNBROKEN),
        row("y" * 60, 3, notes=("z" * 200,)),
        refused(f"{LONG} + pi", "r" * 300),
        document="d" * 200,
    ),
    "questions": _run(
        *(
            row(recipe, i, question=question, answer=f"{question} {i // 2}", ttft_s=i + j + 1.0)
            for j, question in enumerate(QUESTIONS)
            for i, recipe in enumerate(("full", "kivi(bits=4)", "snapkv", "lookup"))
        ),
        refused("medusa", "no heads", question=QUESTIONS[0]),
    ),
    "scripts": _run(
        row("full", question=CHINESE, answer=ARABIC),
        row("检索方法(预算=百分之二十五)", 1, question=CHINESE, answer=CHINESE),
        row("טקסט", 2, question=CHINESE, answer=f"{ARABIC}\n{CHINESE}"),
    ),
    "absent": _run(row("full", **_BARE), row("kivi", 1, **_BARE), row("snapkv", 2)),
    "hostile": _run(
        row("full", answer=HOSTILE + "x" * 400, question=HOSTILE),
        row(HOSTILE, 1, answer=CONTROL, question=HOSTILE, notes=(HOSTILE, CONTROL)),
        refused(f"pi {CONTROL}", HOSTILE, question=HOSTILE),
        document=HOSTILE,
    ),
    "same": _run(*(row(name, 0) for name in ("full", "lookup", "sam", "recycling", "copyspec"))),
    "beyond": Comparison(
        [row(name, i, length=n, agreement=None)
         for n in (4096, 16384) for i, name in enumerate(("full", "yarn(factor=2)", "infllm"))],
        "A book", 8192, ORIGIN,
    ),
}  # fmt: skip


def soup_of(rows: Comparison) -> BeautifulSoup:
    """The page of these rows, parsed."""
    return BeautifulSoup(rows.to_html(), "html.parser")
