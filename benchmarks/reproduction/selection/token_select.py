"""TokenSelect at its defaults and at fewer tokens: see copying.py.

Beside the default some of 64 first tokens: what is chosen counts, not what is first.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.selection.copying import COLUMNS, LENGTH, recent, rows

from lengthwise.engine.plan import FULL, Plan
from lengthwise.methods.base import Method
from lengthwise.methods.selection.token_select import TokenSelect

SETTINGS = (
    TokenSelect(budget=2048, init=64), TokenSelect(budget=2048, init=64, query_block=128),
    TokenSelect(budget=1024, init=64), TokenSelect(budget=1024, init=64, query_block=128),
    TokenSelect(budget=1024, init=64, reuse=0.9),
    TokenSelect(budget=704, init=64), TokenSelect(budget=704, init=64, query_block=128),
)  # fmt: skip


@check(COLUMNS)
def token_select(length: int = LENGTH) -> Iterator[Found]:
    """Tokens chosen one by one, in blocks of 512 queries and of 128, beside full attention."""
    plans: dict[str, Plan | Method] = {
        "full attention": FULL, "`token_select` (2,688 tokens)": TokenSelect(),
        **{f"`{method}`": method for method in SETTINGS},
        "only the most recent 1,024 tokens": recent(1024),
    }  # fmt: skip
    yield from rows(plans, length)
