"""InfLLM at its defaults and with fewer blocks: see copying.py."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.selection.copying import COLUMNS, LENGTH, rows

from lengthwise.engine.plan import FULL
from lengthwise.methods.selection.infllm import InfLLM

SETTINGS = {
    "full attention": FULL,
    "`infllm` (2,048 tokens: window 1,024, 13 to 15 blocks of 64)": InfLLM(),
    "`infllm(observe=1)`: every query of the prompt counts for representatives, as in the paper":
        InfLLM(observe=1),
    "`infllm(budget=926, window=512, block=32)`: 8 to 10 blocks":
        InfLLM(budget=926, window=512, block=32),
    "`infllm(budget=702, window=512, block=32)`: 1 to 3 blocks":
        InfLLM(budget=702, window=512, block=32),
}  # fmt: skip


@check(COLUMNS)
def infllm(length: int = LENGTH) -> Iterator[Found]:
    """Blocks read from afar, beside full attention."""
    yield from rows(SETTINGS, length)
